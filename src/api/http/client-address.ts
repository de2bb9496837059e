import type { IncomingMessage } from 'node:http';
import { ipKeyGenerator } from 'express-rate-limit';

/** Whom a request counts for: its address, and of an IPv6 one its network, as whoever has one has very many. */
export const clientAddress = ({ socket }: Pick<IncomingMessage, 'socket'>): string =>
  ipKeyGenerator(socket.remoteAddress ?? '');
