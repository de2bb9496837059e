import { useData } from 'vitepress';
import DefaultTheme from 'vitepress/theme';
import { onMounted, watchEffect } from 'vue';
import { languageOf } from '../language.ts';
import './style.css';

export default {
  extends: DefaultTheme,
  setup() {
    const { page } = useData();
    // Sets the language of the page, and overwrites the language of the whole site, which VitePress sets first.
    onMounted(() => {
      watchEffect(() => {
        document.documentElement.lang = languageOf(page.value.relativePath);
      });
    });
  },
};
