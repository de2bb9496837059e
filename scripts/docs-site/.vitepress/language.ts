/**
 * Finds the language of a page by its file name, because the Chinese pages are in the same folders as the English
 * pages. VitePress itself expects a folder for each language.
 */
export const languageOf = (file: string): 'en' | 'zh-CN' =>
  /\.zh\.(?:html|md)$/.test(file) ? 'zh-CN' : 'en';
