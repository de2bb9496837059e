/** Options for QR codes, in the page and in the service: a quiet zone around the code, and medium error correction. */
export const QR_OPTIONS = /** @type {const} */ ({ ecc: 'M', border: 4 });

/**
 * The dark modules of a QR code as an SVG path. A module is one unit wide and high; each run of dark modules in a row
 * becomes one rectangle.
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
