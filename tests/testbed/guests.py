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


CARD_SLOT = 5
"""Of the PCI bus, where `CARD` puts the network card and `SEND_PACKET` finds it."""
CARD = f"""\
<interface type='ethernet'>
      <model type='ne2k_pci'/>
      <rom enabled='no'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x{CARD_SLOT:02x}' function='0x0'/>
    </interface>"""
"""A network card of the plainest kind, without a boot ROM that would send by itself; for `NetworkedQemuDaemon`."""

SEND_PACKET = bytes.fromhex(
    f"66b8 {(0x80000010 | CARD_SLOT << 11).to_bytes(4, 'little').hex()}"  # mov eax, ...   base address 0 of the card
    "baf80c"  #   mov dx, 0xcf8
    "66ef"  #     out dx, eax
    "bafc0c"  #   mov dx, 0xcfc
    "66ed"  #     in eax, dx
    "24fe"  #     and al, 0xfe   the lowest bit only says "a port"
    "89c6"  #     mov si, ax     the card's first port
    "8d5404"  #   lea dx, [si + 4]
    "b040"  #     mov al, 0x40   the packet begins at page 0x40 of the card's memory,
    "ee"  #       out dx, al
    "42"  #       inc dx
    "b03c"  #     mov al, 60     has so many bytes, whatever they are,
    "ee"  #       out dx, al
    "42"  #       inc dx
    "30c0"  #     xor al, al
    "ee"  #       out dx, al
    "89f2"  #     mov dx, si
    "b026"  #     mov al, 0x26   "start, transmit"
    "ee"  #       out dx, al
)
WRITE_SECTOR = bytes.fromhex(
    "31c0"  #     xor ax, ax
    "8ec0"  #     mov es, ax
    "bb007c"  #   mov bx, 0x7c00   this sector itself
    "b80103"  #   mov ax, 0x0301   write one sector
    "b90300"  #   mov cx, 3        to cylinder 0, sector 3,
    "ba8000"  #   mov dx, 0x0080   head 0 of the first disk
    "cd13"  #     int 0x13
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


def forever(*instructions: bytes) -> bytes:
    """These again and again."""
    code = b"".join(instructions)
    return code + b"\xe9" + (-len(code) - 3).to_bytes(2, "little", signed=True)  # jmp


def busy(ticks: int = 4) -> bytes:
    """A guest that writes a sector of its disk and sends a packet through its `CARD`, each time after so many ticks."""
    return boot_sector(forever(WRITE_SECTOR, SEND_PACKET, wait(ticks)))


def write_sectors(address: int, first: int, count: int = 1) -> bytes:
    """The instructions that write memory at `address` to the first hard disk (BIOS: 0x80), at its n-th sector."""
    return bytes.fromhex(
        "31c0"  #              xor ax, ax
        "8ec0"  #              mov es, ax
        f"b8 {count:02x}03"  # mov ax, 0x03NN    write so many sectors
        f"bb {address.to_bytes(2, 'little').hex()}"  # mov bx, address
        f"b9 {first:02x}00"  # mov cx, cylinder 0, sector
        "ba 8000"  #           mov dx, head 0, disk 0x80
        "cd13"  #              int 0x13
    )


LOADED_AT = 0x7C00
"""Where the BIOS puts the boot sector; of a CD the following one too."""
FREE_AT = 0x8000
"""Memory behind them."""
GATE_SECTOR = 4
"""Of the first hard disk, counted from 1: how often a guest may still pass its `gate`."""
ALWAYS = 0xFFFF


def gate() -> bytes:
    """The instructions that wait until a word of the first hard disk is not 0, and then count it down by one.

    So a guest goes on when a test says so (`open_gate`), and not after a time that is long enough for the test on the
    slowest machine, and too long on all others.
    """
    return bytes.fromhex(
        "f4"  #         hlt               <- again: until the next timer tick
        "31c0"  #       xor ax, ax
        "8ec0"  #       mov es, ax
        f"bb {FREE_AT.to_bytes(2, 'little').hex()}"  # mov bx, FREE_AT
        "b80102"  #     mov ax, 0x0201    read one sector
        f"b9 {GATE_SECTOR:02x}00"  # mov cx, cylinder 0, sector
        "ba8000"  #     mov dx, head 0, disk 0x80
        "cd13"  #       int 0x13
        "72 eb"  #      jc again
        f"833e {FREE_AT.to_bytes(2, 'little').hex()} 00"  # cmp word [FREE_AT], 0
        "74 e4"  #      je again
        f"ff0e {FREE_AT.to_bytes(2, 'little').hex()}"  # dec word [FREE_AT]
    ) + write_sectors(FREE_AT, GATE_SECTOR)


def open_gate(disk: Path, times: int = ALWAYS) -> None:
    """Let the guest with this disk pass its `gate` so often. Not while it passes: it writes the same word."""
    with disk.open("r+b") as image:
        image.seek((GATE_SECTOR - 1) * SECTOR_BYTES)
        image.write(times.to_bytes(2, "little"))


def installed() -> bytes:
    """What an installation leaves on the disk: it copies itself to the second sector, and so tells that it booted."""
    return boot_sector(write_sectors(LOADED_AT, 2))


def installs(*before: bytes, then: bytes) -> bytes:
    """A CD's two boot sectors: after `before` it writes `installed()` to the disk, and then it resets or powers off."""
    code = boot_sector(*before, write_sectors(LOADED_AT + SECTOR_BYTES, 1), then)
    return code + installed()


CD_SECTOR_BYTES = 2048


def write_cd(path: Path, boot: bytes) -> Path:
    """An image of a CD that boots `boot`, as the El Torito specification 1.0 says: without emulation of a disk."""
    catalog, content = 19, 20
    check = bytearray(bytes.fromhex("0100 0000") + b"vmwatch".ljust(24, b"\0") + bytes.fromhex("0000 55aa"))
    total = sum(int.from_bytes(check[at : at + 2], "little") for at in range(0, 32, 2))
    check[28:30] = (-total % 0x10000).to_bytes(2, "little")
    sectors = -(-len(boot) // SECTOR_BYTES)
    entry = bytes.fromhex("88 00 0000 00 00") + sectors.to_bytes(2, "little") + content.to_bytes(4, "little")
    volume = b"\x01CD001\x01".ljust(80, b"\0") + (content + 1).to_bytes(4, "little")
    record = b"\0CD001\x01EL TORITO SPECIFICATION".ljust(71, b"\0") + catalog.to_bytes(4, "little")
    parts = {16: volume, 17: record, 18: b"\xffCD001\x01", catalog: bytes(check) + entry, content: boot}
    with path.open("wb") as image:
        for sector, part in parts.items():
            image.seek(sector * CD_SECTOR_BYTES)
            image.write(part)
        image.truncate((content + 1) * CD_SECTOR_BYTES)
    return path


def write_disk(path: Path, sector: bytes) -> Path:
    """A raw disk image that boots `sector`; sparse, so it takes one block."""
    with path.open("wb") as image:
        image.write(sector)
        image.truncate(DISK_BYTES)
    return path


DISK = """\
<disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{image}'/>
      <target dev='hda' bus='ide'/>
    </disk>"""


def domain_xml(
    name: str,
    uuid: str,
    image: Path | None,
    *,
    on_reboot: str = "restart",
    on_poweroff: str = "destroy",
    memory_mib: int = 16,
    extra_devices: str = "",
) -> str:
    """A domain that boots `image` under plain emulation: /dev/kvm is seldom there, and such a guest needs no speed.

    Without an image it has no disk, and only its BIOS runs.
    Without the devices that libvirt adds by itself (USB, balloon) QEMU starts faster.
    """
    disk = "" if image is None else DISK.format(image=image)
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
    {disk}
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {extra_devices}
  </devices>
</domain>
"""
