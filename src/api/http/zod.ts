import { extendZodWithOpenApi } from '@asteasolutions/zod-to-openapi';
import { z } from 'zod';

// Must run once before the API creates any schema: schemas created earlier have no `openapi()`.
extendZodWithOpenApi(z);

export { z };
