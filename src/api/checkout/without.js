// For browsers that run scripts but not `page.js`. The browser may be too old, or a file may not have loaded. Such a
// browser does not show the content of `<noscript>`, so this script shows it. The script uses only JavaScript of 2016
// and is not a module.

addEventListener('load', () => {
  if (document.documentElement.hasAttribute('data-runs')) return;
  const isWithoutToken = document.querySelector('main.scripted') !== null;
  if (isWithoutToken) {
    const address = rememberedAddress();
    // This redirect cannot loop, because the service never sends `main.scripted` for a URL with a token.
    if (address !== undefined) return location.replace(address);
    for (const part of Array.from(document.querySelectorAll('#header, #state'))) part.remove();
  }
  // Hide the buttons that `page.js` showed before it failed, because they do nothing.
  for (const button of Array.from(document.querySelectorAll('main button')))
    button.setAttribute('hidden', '');
  for (const noscript of Array.from(document.querySelectorAll('noscript'))) {
    const shown = document.createElement('div');
    shown.className = 'without';
    // The content of `<noscript>` comes from the service, so it is safe HTML. A refresh in this content starts when the
    // content is inserted.
    shown.innerHTML = noscript.textContent || '';
    if (noscript.parentNode !== null) noscript.parentNode.replaceChild(shown, noscript);
  }
});

/** The URL of this payment with the token and the language that `page.js` stored in this tab in an earlier run. */
function rememberedAddress() {
  try {
    const { token, mayHavePaid, leftForWallet } = JSON.parse(
      sessionStorage.getItem(`nodrop:${location.pathname.split('/').pop()}`) || '{}',
    );
    if (typeof token !== 'string' || token === '') return undefined;
    const language = /[?&]lang=(en|zh)\b/.exec(location.search);
    const chosen = language === null ? sessionStorage.getItem('nodrop:language') : language[1];
    const isBack = mayHavePaid === true || leftForWallet === true || /[?&]returned\b/.test(location.search);
    return `?token=${encodeURIComponent(token)}${isBack ? '&returned=1' : ''}${chosen ? `&lang=${chosen}` : ''}`;
  } catch (_) {
    // The browser gives no access to the storage.
    return undefined;
  }
}
