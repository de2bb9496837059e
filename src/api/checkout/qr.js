/**
 * Options for the QR codes that the page and the service draw. Each code has a quiet zone around it and medium error
 * correction.
 */
export const QR_OPTIONS = /** @type {const} */ ({ ecc: 'M', border: 4 });

/**
 * Returns the dark modules of a QR code as an SVG path. A module is one unit wide and one unit high. Each horizontal
 * run of dark modules becomes one rectangle.
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
