import { extendZodWithOpenApi } from '@asteasolutions/zod-to-openapi';
import { z } from 'zod';

// Once, before any schema of the API is made: schemas made earlier have no `openapi()`.
extendZodWithOpenApi(z);

export { z };
