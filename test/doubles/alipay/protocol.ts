/** The applications that the double knows, each with its seller. */
export const APPS = {
  '2021000000000001': '2088000000000101',
  '2021000000000002': '2088000000000102',
} as const;

/** A fault of the next request, or of the next request with one method. */
export interface Fault {
  readonly of?: string;
  readonly kind:
    | 'error'
    | 'nonsense'
    /** The request is carried out, but not answered. */
    | 'accepted'
    | 'refused'
    /** The content of the answer differs from the signed content. */
    | 'tampered'
    | 'tampered amount'
    | 'unsigned';
  readonly code?: string;
  readonly subCode?: string;
}
