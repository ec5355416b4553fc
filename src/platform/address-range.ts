/** The use of an internet address: public, private, loopback, and the like. */
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/** The only part of IPv6 that is given out for public use (IANA's registry of its address space). */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR("2000::/3");

/** An IPv6 address in hexadecimal alone, without its zone: `ipaddr.js` reads ::a.b.c.d as ::ffff:a.b.c.d. */
function withoutDots(address: string): string {
  return new URL(`http://[${address.split("%")[0]}]`).hostname.slice(1, -1);
}

/**
 * The use of an address, in the words of `ipaddr.js`; `unicast`: a public host.
 *
 * IPv4 can stand within IPv6 in many encodings, and each reaches the IPv4 address where a machine or a router
 * translates it. The mapped one (::ffff:0:0/96) and ISATAP's (…:0:5efe:a.b.c.d) are judged by the IPv4 address within.
 * All others are refused, whatever is within: `ipaddr.js` knows 6to4, Teredo and NAT64, and the compatible one
 * (::a.b.c.d) is outside 2000::/3.
 */
export function addressRange(address: string): string {
  if (!ipaddr.isValid(address)) return "invalid";
  const parsed = ipaddr.process(isIP(address) === 6 ? withoutDots(address) : address);
  const range = parsed.range();
  if (range !== "unicast" || !(parsed instanceof ipaddr.IPv6)) return range;
  if (!parsed.match(GLOBAL_UNICAST)) return "reserved";
  const [, , , , fifth = 0, sixth] = parsed.parts;
  // The bit that may be set says that the IPv4 address is unique in the world.
  const isatap = (fifth & ~0x0200) === 0 && sixth === 0x5efe;
  return isatap ? new ipaddr.IPv4(parsed.toByteArray().slice(12)).range() : range;
}
