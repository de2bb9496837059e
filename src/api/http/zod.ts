import { extendZodWithOpenApi } from '@asteasolutions/zod-to-openapi';
import { z } from 'zod';

// This must run before the API creates its first schema. A schema that was created earlier has no method `openapi()`.
extendZodWithOpenApi(z);

export { z };
