"""Guests without an operating system: a boot sector each, put together here from the bytes of its instructions.

They boot in a fraction of a second under plain emulation with 16 MiB of memory. Time inside a guest is counted in
the BIOS's timer ticks, 18.2 a second.
"""

from pathlib import Path

SECTOR_BYTES = 512
BOOT_SIGNATURE = b"\x55\xaa"
DISK_BYTES = 1024 * 1024
"""One megabyte: below that some tools do not see a disk."""

TICKS_PER_S = 18.2

SET_UP = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax         the BIOS's data lie in segment 0
    "fb"  #   sti                without interrupts there are no ticks, and hlt never returns
)
IDLE = bytes.fromhex(
    "f4"  #   hlt
    "ebfd"  # jmp to the hlt
)
RESET = bytes.fromhex(
    "b0fe"  # mov al, 0xfe       "pulse the reset line"
    "e664"  # out 0x64, al       the keyboard controller's command port
)
POWER_OFF = bytes.fromhex(
    "ba0406"  # mov dx, 0x604    PM1a control register of machine `pc`
    "b80020"  # mov ax, 0x2000   SLP_EN; sleep type 0 is "soft off" there
    "ef"  #     out dx, ax
)


def wait(ticks: int) -> bytes:
    """The instructions that wait for so many timer ticks, up to 65535 (an hour).

    They count changes of the tick counter and do not compare it: at midnight it starts again from 0.
    """
    return bytes.fromhex(
        f"bb {ticks.to_bytes(2, 'little').hex()}"  # mov bx, ticks
        "a1 6c04"  #   mov ax, [0x46c]
        "f4"  #        hlt          <- again
        "3b06 6c04"  # cmp ax, [0x46c]
        "74 f9"  #     je again
        "a1 6c04"  #   mov ax, [0x46c]
        "4b"  #        dec bx
        "75 f3"  #     jnz again
    )


def boot_sector(*instructions: bytes) -> bytes:
    """A bootable sector that runs these and then idles."""
    code = b"".join((SET_UP, *instructions, IDLE))
    room = SECTOR_BYTES - len(BOOT_SIGNATURE)
    if len(code) > room:
        raise ValueError(f"{len(code)} bytes of code, but a boot sector holds {room}")
    return code.ljust(room, b"\0") + BOOT_SIGNATURE


def idle() -> bytes:
    """A guest that does nothing, and answers neither reboot nor shutdown requests."""
    return boot_sector()


def resets_after(ticks: int) -> bytes:
    """A guest that resets itself each time when it has run so many ticks."""
    return boot_sector(wait(ticks), RESET)


def powers_off_after(ticks: int) -> bytes:
    """A guest that switches itself off when it has run so many ticks."""
    return boot_sector(wait(ticks), POWER_OFF)


def dirties_memory(passes: int = 0) -> bytes:
    """A guest that writes to each page from 1 MiB to 15 MiB with each timer tick: 250 MiB of dirty memory a second.

    At a limited speed its live migration never comes to an end. After so many passes, up to 65535, the guest switches
    itself off; 0: never. It stays in real mode, where these addresses are reached only because the emulator does not
    check the limits of segments.
    """
    loop = bytes.fromhex(
        "66 bf 00001000"  #    mov edi, 0x100000  <- pass
        "67 66 ff 07"  #       inc dword [edi]    <- page
        "66 81 c7 00100000"  # add edi, 0x1000
        "66 81 ff 0000f000"  # cmp edi, 0xf00000
        "72 ec"  #             jb page
        "f4"  #                hlt
    )
    again = "eb e3" if passes == 0 else "4b 75 e2"  # jmp pass; or dec bx, jnz pass
    count = bytes.fromhex(f"bb {passes.to_bytes(2, 'little').hex()}")  # mov bx, passes
    return boot_sector(count, loop, bytes.fromhex(again), POWER_OFF)


def write_disk(path: Path, sector: bytes) -> Path:
    """A raw disk image that boots `sector`; sparse, so it takes one block."""
    with path.open("wb") as image:
        image.write(sector)
        image.truncate(DISK_BYTES)
    return path


def domain_xml(
    name: str,
    uuid: str,
    image: Path,
    *,
    on_reboot: str = "restart",
    on_poweroff: str = "destroy",
    memory_mib: int = 16,
    extra_devices: str = "",
) -> str:
    """A domain that boots `image` under plain emulation: /dev/kvm is seldom there, and such a guest needs no speed.

    Without the devices that libvirt adds by itself (USB, balloon) QEMU starts faster.
    """
    return f"""\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/></features>
  <on_poweroff>{on_poweroff}</on_poweroff>
  <on_reboot>{on_reboot}</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{image}'/>
      <target dev='hda' bus='ide'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {extra_devices}
  </devices>
</domain>
"""
