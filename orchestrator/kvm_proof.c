/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The proof: a boot sector that switches to long mode, moves 64-bit values through memory and registers, and
 * writes to QEMU's isa-debug-exit port, which ends QEMU with a status that nothing else gives. It uses the host's own
 * CPU model, as guests that shall be fast do: there are hosts where a plain one runs and this one does not.
 */
#include "orchestrator/kvm_proof.h"

#include "base/child.h"
#include "base/confine.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROVEN_STATUS 85 /* isa-debug-exit: 2 * 0x2a + 1 */
#define DEADLINE_MS 3000

/* Assembled by GNU as, loaded at 0x7c00. */
static const guint8 code[] = {
    /* clang-format off */
    0xfa, /* cli */
    0x31, 0xc0, /* xorw %ax,%ax */
    0x8e, 0xd8, /* movw %ax,%ds */
    0x8e, 0xc0, /* movw %ax,%es */
    0x8e, 0xd0, /* movw %ax,%ss */
    0xbc, 0x00, 0x7c, /* movw $0x7c00,%sp */
    0xfc, /* cld */
    0x66, 0xbf, 0x00, 0x90, 0x00, 0x00, /* movl $0x9000,%edi # three page tables at 0x9000, zeroed */
    0x66, 0xb9, 0x00, 0x0c, 0x00, 0x00, /* movl $0xc00,%ecx */
    0x66, 0x31, 0xc0, /* xorl %eax,%eax */
    0x66, 0xf3, 0xab, /* rep stosl */
    0x66, 0xc7, 0x06, 0x00, 0x90, 0x03, 0xa0, 0x00, 0x00, /* movl $0xa003,0x9000 # PML4 -> PDPT */
    0x66, 0xc7, 0x06, 0x00, 0xa0, 0x03, 0xb0, 0x00, 0x00, /* movl $0xb003,0xa000 # PDPT -> PD */
    0x66, 0xc7, 0x06, 0x00, 0xb0, 0x83, 0x00, 0x00, 0x00, /* movl $0x83,0xb000 # PD: 2 MiB, identity */
    0x66, 0xb8, 0x20, 0x00, 0x00, 0x00, /* movl $0x20,%eax # CR4.PAE */
    0x0f, 0x22, 0xe0, /* movl %eax,%cr4 */
    0x66, 0xb8, 0x00, 0x90, 0x00, 0x00, /* movl $0x9000,%eax */
    0x0f, 0x22, 0xd8, /* movl %eax,%cr3 */
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, /* movl $0xc0000080,%ecx # EFER.LME */
    0x0f, 0x32, /* rdmsr */
    0x66, 0x0d, 0x00, 0x01, 0x00, 0x00, /* orl $0x100,%eax */
    0x0f, 0x30, /* wrmsr */
    0x66, 0x0f, 0x01, 0x16, 0xd0, 0x7c, /* lgdtl gdtr */
    0x0f, 0x20, 0xc0, /* movl %cr0,%eax # CR0.PG and PE: long mode */
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, /* orl $0x80000001,%eax */
    0x0f, 0x22, 0xc0, /* movl %eax,%cr0 */
    0x66, 0xea, 0x76, 0x7c, 0x00, 0x00, 0x08, 0x00, /* ljmpl $8,$long */
    0xb8, 0x10, 0x00, 0x00, 0x00, /* long: movl $0x10,%eax */
    0x8e, 0xd8, /* movl %eax,%ds */
    0x48, 0xb8, 0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, /* movabsq $0x123456789abcdef0,%rax # 64 bits go to memory, come back, are swapped */
    0x48, 0x89, 0x04, 0x25, 0x00, 0x80, 0x00, 0x00, /* movq %rax,0x8000 */
    0x48, 0x8b, 0x1c, 0x25, 0x00, 0x80, 0x00, 0x00, /* movq 0x8000,%rbx */
    0x48, 0x0f, 0xcb, /* bswapq %rbx */
    0x48, 0xb9, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, /* movabsq $0xf0debc9a78563412,%rcx */
    0x48, 0x39, 0xcb, /* cmpq %rcx,%rbx */
    0x75, 0x07, /* jne halt */
    0x66, 0xba, 0xf4, 0x00, /* movw $0xf4,%dx # isa-debug-exit: QEMU's status is 2 * 0x2a + 1 */
    0xb0, 0x2a, /* movb $0x2a,%al */
    0xee, /* outb %al,%dx */
    0xf4, /* halt: hlt */
    0xeb, 0xfd, /* jmp halt */
    0x0f, 0x1f, 0x44, 0x00, 0x00, /* .balign 8 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* gdt: .quad 0 # GDT: null, 64-bit code, data */
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xaf, 0x00, /* .quad 0x00af9a000000ffff */
    0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00, /* .quad 0x00cf92000000ffff */
    0x17, 0x00, /* gdtr: .word 23 */
    0xb8, 0x7c, 0x00, 0x00, /* .long gdt */
    /* clang-format on */
};

G_STATIC_ASSERT(sizeof(code) <= 510);

/* A file without a name, which QEMU inherits: the descriptors in our own /proc entry are root's alone once we may leave no core. */
static int boot_sector(GError **error)
{
    guint8 sector[512] = {[510] = 0x55, [511] = 0xaa};
    vr_autofd fd = memfd_create("kvm-proof", MFD_CLOEXEC);

    memcpy(sector, code, sizeof(code));
    if (fd >= 0 && vr_write_all(fd, sector, sizeof(sector), "the boot sector", error))
        return vr_fd_steal(&fd);
    if (fd < 0)
        g_set_error(error, VR_ERROR, VR_ERROR_IO, "cannot make a file in memory");
    return -1;
}

gboolean vr_kvm_prove(GError **error)
{
    vr_autofd fd = boot_sector(error);
    g_autofree char *drive = g_strdup_printf("file=/proc/self/fd/%d,format=raw,if=floppy,readonly=on", fd);
    const char *const argv[] = {"qemu-system-x86_64",
                                "-accel",
                                "kvm",
                                "-cpu",
                                "host",
                                "-nodefaults",
                                "-no-user-config",
                                "-display",
                                "none",
                                "-m",
                                "16",
                                "-drive",
                                drive,
                                "-device",
                                "isa-debug-exit,iobase=0xf4,iosize=1",
                                NULL};
    VrChildLimits limits = {.timeout_ms = DEADLINE_MS, .keep_fd = fd};
    g_auto(VrChildResult) result = {0};

    if (fd < 0 || !vr_child_run(argv, &limits, &result, error))
        return FALSE;
    if (result.exit_status == PROVEN_STATUS)
        return TRUE;
    g_autofree char *said = vr_printable(g_strstrip(result.err), -1);
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "QEMU ended with status %d%s%s", result.exit_status, *said ? ": " : "",
                said);
    return FALSE;
}

static void prove(void *works)
{
    *(gboolean *)works = access("/dev/kvm", R_OK | W_OK) == 0 && vr_kvm_prove(NULL);
}

gboolean vr_kvm_works(void)
{
    gboolean works = FALSE;

    vr_confine_outside(prove, &works);
    return works;
}
