// Channels as they are stored: heads may be widened to a multiple of four.
const PADDING = 0xffffffffu;

// The source's channel that lands on a stored channel.
fn unpadded(channel: u32, head: u32, padded: u32) -> u32 {
  if (head == 0u) { return channel; }
  let within = channel % padded;
  return select(PADDING, channel / padded * head + within, within < head);
}
