/**
 * Tells the language of a page by its file name. Here the Chinese pages are in the same folders as the English pages,
 * but VitePress itself expects a folder for each language.
 */
export const languageOf = (file: string): 'en' | 'zh-CN' =>
  /\.zh\.(?:html|md)$/.test(file) ? 'zh-CN' : 'en';
