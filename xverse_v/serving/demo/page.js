// The other half of markup.py: references in the demo's own spelling become characters again where text leaves the chat.
(() => {
  const written = (text) => text.replace(/&#00000(38|60|62);/g, (_, code) => String.fromCharCode(code));
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(written(text));
  }
  document.addEventListener("focusin", (event) => {
    const box = event.target;
    if (!(box instanceof HTMLTextAreaElement) || !box.closest(".xv-chat")) return;
    if (written(box.value) === box.value) return;
    box.value = written(box.value);
    box.dispatchEvent(new Event("input", { bubbles: true }));
  });
})();
