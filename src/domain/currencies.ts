/** Maps a number of decimal places to the currency codes that have it, separated by spaces. */
type ByPlaces = Readonly<Record<number, string>>;

/**
 * The currencies that people pay in, from List One of ISO 4217 as of 2026-01-01. Funds codes, metals and units used
 * only for accounting (UYW, XAD) are left out. A test compares these currencies with List One and with CLDR.
 */
const CURRENT: ByPlaces = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF',
  2: `AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP
      CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES
      KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK
      NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB
      TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG`,
  3: 'BHD IQD JOD KWD LYD OMR TND',
};

/**
 * Currencies that stored amounts may have, but that new orders cannot use. Some are withdrawn: ANG became XCG, BGN and
 * HRK became EUR, CUC became CUP, SLL became SLE, and ZWL became ZWG. The others are funds codes that earlier versions
 * accepted. If ISO 4217 withdraws a code, the code moves to this list and is never removed.
 */
const WITHDRAWN: ByPlaces = {
  0: 'UYI',
  2: 'ANG BGN BOV CHE CHW COU CUC HRK MXV SLL USN ZWL',
  4: 'CLF UYW',
};

const places = (codes: ByPlaces): ReadonlyMap<string, number> =>
  new Map(
    Object.entries(codes).flatMap(([digits, list]) =>
      list.split(/\s+/).map((code) => [code, Number(digits)] as const),
    ),
  );

/** The decimal places of every currency that a new order may use. */
export const CURRENT_CURRENCIES = places(CURRENT);

/** The decimal places of every currency that a stored amount may have. */
export const KNOWN_CURRENCIES: ReadonlyMap<string, number> = new Map([
  ...CURRENT_CURRENCIES,
  ...places(WITHDRAWN),
]);
