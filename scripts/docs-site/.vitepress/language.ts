/**
 * The language of a page by its file name: VitePress uses folders, but Chinese pages are beside the English ones here.
 */
export const languageOf = (file: string): 'en' | 'zh-CN' =>
  /\.zh\.(?:html|md)$/.test(file) ? 'zh-CN' : 'en';
