/** VitePress takes the language from a page's folder; our Chinese pages are beside the English ones. */
export const languageOf = (file: string): 'en' | 'zh-CN' =>
  /\.zh\.(?:html|md)$/.test(file) ? 'zh-CN' : 'en';
