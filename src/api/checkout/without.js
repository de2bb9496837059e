// For browsers that have scripts, and do not run those of the page: older than modules, than the language of these or than
// what they call, or one of the files did not arrive. Without this the page would stay as it was sent, as `noscript` is
// for browsers without scripts alone. A classic script, in the language of 2016.

addEventListener('load', () => {
  if (document.documentElement.hasAttribute('data-runs')) return;
  const isWithoutToken = document.querySelector('main.scripted') !== null;
  if (isWithoutToken) {
    const address = rememberedAddress();
    // No loop: for an address with a token the service never sends this page.
    if (address !== undefined) return location.replace(address);
    for (const part of Array.from(document.querySelectorAll('#header, #state'))) part.remove();
  }
  // What the script showed before it failed: nothing is behind them.
  for (const button of Array.from(document.querySelectorAll('main button')))
    button.setAttribute('hidden', '');
  for (const noscript of Array.from(document.querySelectorAll('noscript'))) {
    const shown = document.createElement('div');
    shown.className = 'without';
    // As the service sent it. The refresh in it begins when it is inserted.
    shown.innerHTML = noscript.textContent || '';
    if (noscript.parentNode !== null) noscript.parentNode.replaceChild(shown, noscript);
  }
});

/** This payment's address with the token and the language that `page.js` left in this tab when it ran. */
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
    // The storage is refused.
    return undefined;
  }
}
