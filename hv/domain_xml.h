/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Domain XML, pure: what we read from it, and the one edit that we make to it. The edit happens in a DOM
 * on libvirt's own inactive, secure dump, so that everything that we do not know of stays as it was. Only
 * these may differ: the OS disk's type, driver type, source and backing chain; our seed CD-ROM, with the controller that
 * libvirt names since it is there; our metadata; the nvram path (SAFETY invariant 10, 4.2 to 4.4). vr_domain_xml_prove() shows that of two dumps.
 */
#pragma once

#include <glib.h>

typedef struct {
    char *type;          /* file, block, volume, network, ... */
    char *device;        /* disk, cdrom, floppy, lun */
    char *driver;        /* <driver type>: qcow2, raw; NULL when not said */
    char *source;        /* path of file or block device; NULL otherwise or when empty */
    char *pool, *volume; /* of type volume */
    char *target, *bus;  /* vda, virtio */
    char *serial, *wwn;
    char *address;            /* its <address> as "pci 0000:04:00.0" (attributes in document order), NULL when none */
    guint boot_order;         /* per-device <boot order>, 0 when none */
    guint logical_block_size; /* <blockio>, 0 when not said */
    gboolean transient, shareable, readonly, mirror;
    gboolean seed; /* our seed's CD-ROM, by its alias */
    gboolean
        may_be_empty; /* a CD-ROM or floppy drive of startupPolicy='optional': without its file libvirt starts it empty */
    char *
        foreign_child; /* name of a child of <source> that we do not know (slices, reservations), or <encryption> or <auth> beside it, else NULL */
} VrDomainDisk;

typedef struct {
    char *name, *uuid;
    char *type; /* kvm, qemu */
    char *arch, *machine;
    char *loader, *nvram;   /* NULL when none; nvram: the path of its file */
    gboolean uefi;          /* loader of type pflash, or <os firmware='efi'> */
    gboolean secure_boot;   /* <loader secure='yes'>, or the firmware feature */
    gboolean nvram_unnamed; /* UEFI, and which file is its NVRAM libvirt decides at each start */
    char *nvram_format;     /* raw, qcow2; NULL when nvram is */
    char *nvram_foreign;    /* what of its NVRAM a swap cannot carry ("type 'network'", "varstore"), else NULL */
    gboolean tpm;
    gboolean agent_channel; /* org.qemu.guest_agent.0 */
    char *kernel;           /* <os><kernel>: booted from the host's file, whatever the OS disk holds; NULL when none */
    char *on_poweroff, *on_reboot, *on_crash;
    gboolean os_boot_hd_first; /* <os><boot dev='hd'/> is first but for empty drives, or there is no <os><boot> */
    gboolean per_device_boot;  /* some device has <boot order> */
    guint other_boot_order; /* the lowest of a device that is no disk (PXE, a passed-through device); 0: none has one */
    char *other_boot;       /* the element of that device; NULL: none */
    char *unlabelled;       /* model of a <seclabel> with which libvirt labels no disk; NULL: it labels them */
    GPtrArray *disks;       /* VrDomainDisk * */
    GPtrArray *macs;        /* char *, in document order */
    guint64 memory_bytes;
} VrDomainDef;

VrDomainDef *vr_domain_def_parse(const char *xml, GError **error);
void vr_domain_def_free(VrDomainDef *def);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDomainDef, vr_domain_def_free)

/* The OS disk: the disk with `target`, or with target NULL the only one that boots: the only <boot order=1> disk, or the
 * only disk of device 'disk'. Several candidates or none: VR_ERROR_REFUSED that names them and says to set
 * osDisk.target. Not owned by the caller. */
const VrDomainDisk *vr_domain_def_os_disk(const VrDomainDef *def, const char *target, GError **error);

/* One link of a backing chain; the OS disk itself first. */
typedef struct {
    const char *path, *format;
} VrChainLink;

/* What our <metadata> says of the current generation, so that virsh dumpxml shows it and the journal can be rebuilt. */
#define VR_METADATA_NS "urn:virt-reimage:instance:1"
typedef struct {
    const char *set;
    guint generation;
    const char *image, *version; /* NULL: not known */
    const char *swap_id;
} VrDomainRecord;

/* The record as a domain's XML has it. Strings are owned; they are what the file says, unchecked. */
typedef struct {
    char *set, *image, *version; /* NULL: not said */
    char *swap_id;               /* likewise: of the swap that made it current */
    guint generation;
} VrDomainRecordRead;
void vr_domain_record_clear(VrDomainRecordRead *record);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrDomainRecordRead, vr_domain_record_clear)

/* FALSE: it has none, or none that says a generation. */
gboolean vr_domain_xml_record(const char *xml, VrDomainRecordRead *record);

/* The edit of a forward swap: the OS disk `target` becomes type='file' with the explicit chain links[0..n-1], each base
 * with relabel='no' for dac and selinux, ended by an empty <backingStore/>. Returns the new XML; free with g_free. */
char *vr_domain_xml_with_chain(const char *xml, const char *target, const VrChainLink *links, guint n,
                               const VrDomainRecord *record, GError **error);

/* The edit of a rollback: the OS disk's type, driver type, source and chain, the path of the NVRAM, and what is in our seed's CD-ROM, as they are
 * in kept_xml, all else as in xml. An NVRAM of another format than kept_xml's is VR_ERROR_REFUSED.
 * record NULL: our metadata too is as in kept_xml, absent when it has none. */
char *vr_domain_xml_with_kept(const char *xml, const char *target, const char *kept_xml, const VrDomainRecord *record,
                              GError **error);

/* The domain with `path`, absolute, as the file of its NVRAM, in the spelling that <nvram> has; one that libvirt named itself so far
 * is named after this. Free with g_free. */
char *vr_domain_xml_with_nvram(const char *xml, const char *path, GError **error);

/* By which our seed's CD-ROM is known; libvirt keeps an alias that begins with "ua-" as it is. */
#define VR_SEED_ALIAS "ua-virt-reimage-seed"

/* The domain with `path`, absolute, in our seed's CD-ROM: in the drive that it has for that, else in a new one on a free place of IDE, SATA or
 * virtio-scsi, behind the domain's other CD-ROM drives where one is free there; path NULL: without that drive. A machine without such a place is VR_ERROR_REFUSED. Free with g_free. */
char *vr_domain_xml_with_seed(const char *xml, const char *path, GError **error);

/* The file of our seed's CD-ROM; NULL: it has none, or that is empty. Free with g_free. */
char *vr_domain_xml_seed(const char *xml);

/* The domain without our record; alone: the OS disk `target` keeps its source, and its chain ends there. Free with g_free. */
char *vr_domain_xml_released(const char *xml, const char *target, gboolean alone, GError **error);

/* What the dump says to lie below the disk `target`. FALSE: nothing, and libvirt goes by the disk's own header. *path: a file or block device; NULL:
 * the chain ends at the disk; "" what is below has no path. Free with g_free. */
gboolean vr_domain_xml_below(const char *xml, const char *target, char **path);

/* TRUE: the dump names no file below the disk `target`. */
gboolean vr_domain_xml_is_alone(const char *xml, const char *target);

/* The same domain in libvirt's own spelling (domain_print.c): a dump of libvirt's comes back as it is. For people. Free with g_free. */
char *vr_domain_xml_as_libvirt(const char *xml, GError **error);

/* Proof on two dumps of libvirt: TRUE when nothing differs but what may (above). Else VR_ERROR_CONFLICT names the first
 * element that differs. before and after may be any mix of our edit and libvirt's dump of it. */
gboolean vr_domain_xml_prove(const char *before, const char *after, const char *target, GError **error);

/* The <disk> element of `target` as a text that does not depend on white space, comments and the order of attributes: to be compared
 * or hashed, not parsed again. VR_ERROR_NOT_FOUND when there is none. Free with g_free. */
char *vr_domain_xml_disk_text(const char *xml, const char *target, GError **error);

/* TRUE when two inactive dumps say the same, our metadata too (white space and attribute order do not matter). */
gboolean vr_domain_xml_same(const char *a, const char *b);

/* TRUE when dump `a` has the OS disk (type, driver type, source path) and record of our metadata that `intent` has. For
 * read-back and recovery, which ask "is it old or new?". */
gboolean vr_domain_xml_same_os_disk(const char *a, const char *intent, const char *target);

/* TRUE when dump `a` names the NVRAM that `intent` names, or intent leaves that to libvirt. */
gboolean vr_domain_xml_same_nvram(const char *a, const char *intent);

/* TRUE when our seed's CD-ROM in dump `a` has what it has in `intent`. */
gboolean vr_domain_xml_same_seed(const char *a, const char *intent);

/* After a start: the live XML's OS disk source, seed (a guest may have ejected it), UUID, MACs, machine type, nvram path (where the intent names one) and TPM are those of
 * the intent (invariant 14). Else VR_ERROR_CONFLICT with what differs. */
gboolean vr_domain_xml_live_matches(const char *live, const char *intent, const char *target, GError **error);
