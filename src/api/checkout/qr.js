/** How the code of a payment is made, here and by the service: with room around it, and readable with a part missing. */
export const QR_OPTIONS = /** @type {const} */ ({ ecc: 'M', border: 4 });

/**
 * The dark modules of a code as the path of an SVG, each one unit wide and high: a rectangle for each run in a row.
 * @param {readonly (readonly boolean[])[]} data
 */
export function qrPath(data) {
  return data
    .flatMap((row, y) => {
      const signs = row.map((isDark) => (isDark ? '#' : ' ')).join('');
      return [...signs.matchAll(/#+/g)].map(
        ({ index, 0: { length } }) => `M${index} ${y}h${length}v1h-${length}z`,
      );
    })
    .join('');
}
