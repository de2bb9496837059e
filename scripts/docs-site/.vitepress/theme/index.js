import { useData } from 'vitepress';
import DefaultTheme from 'vitepress/theme';
import { onMounted, watchEffect } from 'vue';
import { languageOf } from '../language.ts';
import './style.css';

export default {
  extends: DefaultTheme,
  setup() {
    const { page } = useData();
    // VitePress itself sets the language of the whole site, before this.
    onMounted(() => {
      watchEffect(() => {
        document.documentElement.lang = languageOf(page.value.relativePath);
      });
    });
  },
};
