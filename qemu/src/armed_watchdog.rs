//! The kernel of the i.MX6UL EVK as its U-Boot starts it: with the watchdog running. QEMU's machine does not start that
//! U-Boot, so that a few instructions in front of the kernel stand in for it.

/// Bytes in front of the kernel: it may begin at any address that 4 KiB divide, since a zImage moves itself.
const ROOM: usize = 4096;
/// ARM code. It leaves `r0` to `r2` as QEMU's own loader sets them for the kernel. Source of registers and bits: i.MX 6UltraLite
/// Reference Manual, 57 (WDOG1 at 0x020b_c000; WCR: WT in units of 0.5 s, WDA, SRS, WDE).
///
/// The time is the one that the kernel's driver sets, which leaves the register alone then: QEMU's model forgets WDE when WCR is
/// written a second time, where the chip keeps it until its next reset.
const CODE: [u32; 5] = [
    0xe30c_3000, // movw r3, #0xc000
    0xe340_320b, // movt r3, #0x020b
    0xe307_4734, // movw r4, #0x7734: 60 s, and no reset before
    0xe1c3_40b0, // strh r4, [r3]
    0xea00_03fa, // b to the kernel, 4096 bytes from the first instruction
];

/// Returns the kernel behind the code that arms the watchdog.
pub(crate) fn before(kernel: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(ROOM, 0);
    bytes.extend_from_slice(kernel);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_ends_where_the_kernel_begins() {
        let bytes = before(b"kernel");
        assert_eq!(bytes.get(ROOM..), Some(&b"kernel"[..]));
        // A branch counts words from two instructions behind itself (ARM DDI 0406, A8.8.18).
        let at = (CODE.len() - 1) * 4;
        let offset = usize::try_from(CODE[CODE.len() - 1] & 0x00ff_ffff).unwrap() * 4;
        assert_eq!(at + 8 + offset, ROOM);
    }
}
