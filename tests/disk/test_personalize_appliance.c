/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Personalisation with a real appliance (rows A8, C6). Under TCG a launch is some 15 s, so the good disks and the hostile ones share one: the good ones show
 * that a hostile one harms nobody. VR_FULL=1: very many files, btrfs, LVM: four launches more.
 */
#include "disk/appliances.h"

#include "base/confine.h"

#include <guestfs.h>
#include <stdlib.h>
#include <sys/wait.h>

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGx2 admin@site"
#define SECRET "correct-horse-battery-staple"

static gboolean full(void)
{
    return g_strcmp0(g_getenv("VR_FULL"), "1") == 0;
}

/* ---- disks ---- */

static const char tree[] =
    "set -e; cd \"$1\"; rm -rf tree; mkdir -p tree/etc/ssh tree/etc/systemd/system tree/usr/lib/systemd tree/bin "
    "tree/var\n"
    "mkdir -p tree/usr/share/zoneinfo/Europe tree/home/debian tree/root; touch tree/usr/lib/systemd/systemd; echo old "
    "> tree/etc/motd\n"
    "echo zone > tree/usr/share/zoneinfo/Europe/Berlin; echo old > tree/etc/hostname; echo hi > tree/etc/issue; echo "
    "Etc/UTC > "
    "tree/etc/timezone\n"
    "printf 'root:x:0:0::/root:/bin/sh\\ndebian:x:1000:1000::/home/debian:/bin/sh\\n' > tree/etc/passwd\n"
    "printf 'root:x:0:\\nadm:x:4:\\n' > tree/etc/group; printf '127.0.0.1 localhost\\n127.0.1.1\\told\\n' > "
    "tree/etc/hosts\n"
    "echo 'UUID=1 / ext4 errors=remount-ro 0 1' > tree/etc/fstab; chown -R 1000:1000 tree/home/debian\n";

#define EXT4 "truncate -s 24M $2.raw; mke2fs -q -F -t ext4 -d tree $2.raw\n"

/* The shell knows $2 as its name. Gives the path of a fresh overlay on it. */
static char *make_disk(const char *name, const char *change, const char *finish)
{
    g_autofree char *script = g_strconcat(tree, change, "\n", finish,
                                          "\nqemu-img create -q -f qcow2 -F raw -b $PWD/$2.raw $2.qcow2; chmod 0600 "
                                          "$2.qcow2; rm -rf tree\n",
                                          NULL);
    g_autofree char *file = g_strconcat(name, ".qcow2", NULL);
    slow_tool("sh", "-c", script, "sh", dir->path, name);
    return in_dir(dir, file);
}

static VrPersonal *personal_of(const char *name, const char *change, const char *finish)
{
    g_autofree char *path = make_disk(name, change, finish);
    VrPersonal *personal = vr_personal_new(path, VR_FORMAT_QCOW2);
    personal->hostname = g_strdup(name);
    return personal;
}

/* ---- what a guest would see ---- */

static void mount_disk(const char *name, guint64 offset)
{
    g_autofree char *how = g_strdup_printf("loop,ro%s,offset=%" G_GUINT64_FORMAT,
                                           strcmp(name, "xfs") == 0 ? ",norecovery" : ",noload", offset);
    tool("sh", "-c",
         "cd \"$1\"; rm -f see.raw; qemu-img convert -O raw $2.qcow2 see.raw; mkdir -p root; mount -o $3 see.raw root",
         "sh", dir->path, name, how);
}

static void umount_disk(void)
{
    g_autofree char *path = in_dir(dir, "root");
    tool("umount", path);
}

static void expect_file(const char *path, const char *content, mode_t mode, uid_t uid, gid_t gid)
{
    g_autofree char *relative = g_strconcat("root", path, NULL);
    g_autofree char *text = content_of(dir, relative);
    struct stat st;
    assert_string_equal(text, content);
    assert_int_equal(fstatat(dir->fd, relative, &st, AT_SYMLINK_NOFOLLOW), 0);
    if (!S_ISREG(st.st_mode) || (st.st_mode & 07777) != mode || st.st_uid != uid || st.st_gid != gid)
        fail_msg("%s has mode %o and is of %u:%u", path, st.st_mode, st.st_uid, st.st_gid);
}

static void expect_link(const char *path, const char *target)
{
    g_autofree char *relative = g_strconcat("root", path, NULL);
    g_autofree char *whole = in_dir(dir, relative);
    g_autofree char *to = g_file_read_link(whole, NULL);
    assert_non_null(to);
    assert_string_equal(to, target);
}

static gboolean in_guest(const char *path)
{
    g_autofree char *relative = g_strconcat("root", path, NULL);
    return is_there(dir, relative);
}

static void expect_directory(const char *path, mode_t mode, uid_t uid, gid_t gid)
{
    g_autofree char *relative = g_strconcat("root", path, NULL);
    struct stat st;
    assert_int_equal(fstatat(dir->fd, relative, &st, AT_SYMLINK_NOFOLLOW), 0);
    if (!S_ISDIR(st.st_mode) || (st.st_mode & 07777) != mode || st.st_uid != uid || st.st_gid != gid)
        fail_msg("%s has mode %o and is of %u:%u", path, st.st_mode, st.st_uid, st.st_gid);
}

/* ---- the good ones ---- */

static void add(VrPersonal *personal, VrGuestFileKind kind, const char *path, guint mode, const char *owner,
                const char *text)
{
    g_ptr_array_add(personal->files, vr_guest_file_new(kind, path, mode, owner, text, strlen(text)));
}

static void add_directories_and_links(VrPersonal *personal)
{
    add(personal, VR_GUEST_FILE_DIRECTORY, "/var/lib/shop", 0, "33:34", "");
    add(personal, VR_GUEST_FILE_REGULAR, "/var/lib/shop/a", 0444, "33:34", "a");
    add(personal, VR_GUEST_FILE_LINK, "/var/lib/shop/current", 0, "33:34", "../../../etc/\xff\n");
    add(personal, VR_GUEST_FILE_DIRECTORY, "/home/debian", 0701, "debian:adm", "");
    add(personal, VR_GUEST_FILE_LINK, "/etc/motd", 0, NULL, "/etc/shadow");
}

static void check_directories_and_links(void)
{
    struct stat st;
    expect_directory("/var/lib/shop", 0, 33, 34);
    expect_directory("/var/lib", 0755, 0, 0);
    expect_directory("/home/debian", 0701, 1000, 4);
    expect_file("/var/lib/shop/a", "a", 0444, 33, 34);
    expect_link("/var/lib/shop/current", "../../../etc/\xff\n");
    expect_link("/etc/motd", "/etc/shadow");
    assert_int_equal(fstatat(dir->fd, "root/var/lib/shop/current", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(st.st_uid == 33 && st.st_gid == 34);
}

static VrPersonal *systemd_guest(void)
{
    VrPersonal *personal = personal_of("ext4", "mkdir -p tree/etc/cloud/cloud.cfg.d", EXT4);
    g_autofree char *large = g_strnfill(5 << 20, 'l'); /* more than one message of libguestfs */
    personal->machine_id = g_strdup("");
    personal->timezone = g_strdup("Europe/Berlin");
    personal->first_boot = g_bytes_new_static("#!/bin/sh\ntrue\n", 15);
    vr_personal_add_file(personal->host_keys, "ssh_host_ed25519_key", 0, NULL, SECRET, strlen(SECRET));
    vr_personal_add_file(personal->host_keys, "ssh_host_ed25519_key.pub", 0, NULL, "pub", 3);
    vr_personal_add_key(personal, "debian", KEY);
    vr_personal_add_file(personal->files, "/etc/shop/conf.d/tls.key", 0640, "debian:adm", SECRET, strlen(SECRET));
    vr_personal_add_file(personal->files, "/var/large", 0600, "33:34", large, 5 << 20);
    vr_personal_add_file(personal->files, "/etc/issue", 0600, NULL, "", 0);
    add_directories_and_links(personal);
    return personal;
}

static void check_systemd_guest(void)
{
    g_autofree char *large = g_strnfill(5 << 20, 'l');
    mount_disk("ext4", 0);
    expect_file("/etc/hostname", "ext4\n", 0644, 0, 0);
    expect_file("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1\text4\n", 0644, 0, 0);
    expect_file("/etc/machine-id", "", 0444, 0, 0);
    expect_link("/etc/localtime", "../usr/share/zoneinfo/Europe/Berlin");
    expect_file("/etc/timezone", "Europe/Berlin\n", 0644, 0, 0);
    expect_file("/etc/ssh/ssh_host_ed25519_key", SECRET, 0600, 0, 0);
    expect_file("/etc/ssh/ssh_host_ed25519_key.pub", "pub", 0644, 0, 0);
    g_autofree char *cloud = content_of(dir, "root/etc/cloud/cloud.cfg.d/99-virt-reimage.cfg");
    assert_non_null(strstr(cloud, "\nssh_deletekeys: false\n"));
    expect_file("/home/debian/.ssh/authorized_keys", KEY "\n", 0600, 1000, 1000);
    expect_file("/etc/shop/conf.d/tls.key", SECRET, 0640, 1000, 4);
    expect_file("/var/large", large, 0600, 33, 34);
    expect_file("/etc/issue", "", 0600, 0, 0);
    expect_file("/etc/virt-reimage/first-boot", "#!/bin/sh\ntrue\n", 0700, 0, 0);
    expect_link("/etc/systemd/system/multi-user.target.wants/virt-reimage-first-boot.service",
                "../virt-reimage-first-boot.service");
    check_directories_and_links();
    assert_false(in_guest("/.autorelabel"));
    g_autofree char *etc = in_dir(dir, "root/etc"), *ssh = in_dir(dir, "root/home/debian/.ssh");
    assert_int_equal(count_entries(ssh), 1); /* no temporary file is left */
    umount_disk();
}

#define XFS                                                                                                            \
    "rm -f $2.raw; truncate -s 300M $2.raw; mkfs.xfs -q $2.raw; mkdir -p small; mount -o loop $2.raw small; cp -a "    \
    "tree/. small/; umount small\n"

static void add_host_key(VrPersonal *personal)
{
    vr_personal_add_file(personal->host_keys, "ssh_host_rsa_key", 0, NULL, SECRET, strlen(SECRET));
}

static VrPersonal *rc_guest(void)
{
    VrPersonal *personal =
        personal_of("xfs",
                    "rm tree/usr/lib/systemd/systemd; mkdir -p tree/etc/init.d tree/etc/rc2.d tree/etc/rc3.d "
                    "tree/etc/rc4.d tree/etc/rc5.d tree/var/lib/dbus; echo old > tree/var/lib/dbus/machine-id\n"
                    "mkdir tree/home/debian/.ssh; printf 'ssh-rsa AAAA old' > tree/home/debian/.ssh/authorized_keys",
                    XFS);
    personal->machine_id = g_strdup("0123456789abcdef0123456789abcdef");
    personal->first_boot = g_bytes_new_static("#!/bin/sh\n", 10);
    add_host_key(personal);
    vr_personal_add_key(personal, "debian", KEY);
    vr_personal_add_key(personal, "debian", KEY);
    add(personal, VR_GUEST_FILE_DIRECTORY, "/root/.ssh", 0700, NULL, ""); /* as carried over */
    add(personal, VR_GUEST_FILE_REGULAR, "/root/.ssh/authorized_keys", 0600, NULL, "ssh-rsa AAAA carried");
    vr_personal_add_key(personal, "root", KEY);
    return personal;
}

static void check_rc_guest(void)
{
    mount_disk("xfs", 0);
    expect_file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0444, 0, 0);
    expect_file("/var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n", 0444, 0, 0);
    expect_file("/home/debian/.ssh/authorized_keys", "ssh-rsa AAAA old\n" KEY "\n", 0600, 1000, 1000);
    expect_file("/root/.ssh/authorized_keys", "ssh-rsa AAAA carried\n" KEY "\n", 0600, 0, 0);
    expect_link("/etc/rc2.d/S99virt-reimage-first-boot", "../init.d/virt-reimage-first-boot");
    assert_true(in_guest("/etc/init.d/virt-reimage-first-boot") && in_guest("/etc/ssh/ssh_host_rsa_key"));
    assert_false(in_guest("/etc/cloud")); /* it has no cloud-init */
    assert_false(in_guest("/etc/systemd/system/virt-reimage-first-boot.service"));
    umount_disk();
}

#define PARTITION                                                                                                      \
    "rm -f $2.raw; truncate -s 40M $2.raw; printf 'label: gpt\\nsize=20MiB\\nsize=16MiB\\n' | sfdisk -q $2.raw\n"      \
    "mke2fs -q -F -t ext4 -E offset=1048576 -d tree $2.raw 20M; mke2fs -q -F -E offset=22020096 $2.raw 16M\n"

static VrPersonal *labelled_guest(void)
{
    VrPersonal *personal =
        personal_of("part",
                    "mkdir -p tree/etc/selinux tree/etc/netplan tree/etc/cloud/cloud.cfg.d; echo SELINUX=enforcing > "
                    "tree/etc/selinux/config; echo '/dev/vdb /var ext4 x' >> tree/etc/fstab\n"
                    "setfattr -n security.selinux -v system_u:object_r:hostname_etc_t:s0 tree/etc/hostname",
                    PARTITION);
    vr_personal_add_file(personal->network, "/etc/netplan/10-vr.yaml", 0, NULL, "network: {}\n", 12);
    personal->machine_id = g_strdup(""); /* a copy of D-Bus would lie on the other file system */
    return personal;
}

static void check_labelled_guest(void)
{
    mount_disk("part", 1048576);
    expect_file("/etc/netplan/10-vr.yaml", "network: {}\n", 0600, 0, 0);
    expect_file("/.autorelabel", "", 0644, 0, 0);
    assert_false(in_guest("/etc/cloud/cloud.cfg.d/99-virt-reimage.cfg")); /* it was given no host keys */
    g_autofree char *path = in_dir(dir, "root/etc/hostname");
    tool("sh", "-c", "getfattr --absolute-names -n security.selinux \"$1\" | grep -q hostname_etc_t", "sh", path);
    umount_disk();
}

/* A directory is never listed, so how many files it has does not matter. */
static VrPersonal *guest_with_many_files(void)
{
    g_autofree char *finish =
        g_strdup_printf("truncate -s 1G $2.raw; mke2fs -q -F -t ext4 -N 400000 -d tree $2.raw; mkdir -p small; mount "
                        "-o loop $2.raw small\n"
                        "mkdir small/etc/many; (cd small/etc/many; seq %u | xargs touch); umount small\n",
                        full() ? 300000 : 2000);
    VrPersonal *personal = personal_of("many", "", finish);
    vr_personal_add_file(personal->files, "/etc/many/x", 0600, NULL, "x", 1);
    return personal;
}

/* ---- Windows: its directories on NTFS, and no Windows ---- */

#define ANSWERS "<?xml version=\"1.0\"?>\n<unattend xmlns=\"urn:schemas-microsoft-com:unattend\"/>\n"
#define WINDOWS "rm -r tree/*; mkdir -p tree/WINDOWS/system32 tree/WINDOWS/Panther 'tree/Program Files'\n"
/* In a namespace of its own: a copy of the mount elsewhere would keep its driver from writing all of it. */
#define NTFS                                                                                                           \
    "rm -f $2.raw; truncate -s 16M $2.raw; mkntfs -q -F -f $2.raw >/dev/null 2>&1; mkdir -p ntfs\n"                    \
    "unshare -m sh -ec 'mount -t ntfs-3g -o loop $1 ntfs; cp -r tree/. ntfs/; umount ntfs' sh $2.raw\n"

#define ADMINISTRATORS "01020000000000052000000020020000"
#define EVERYONE "010100000000000100000000"
#define SYSTEM "010100000000000512000000"
/* Everyone may see that it is there (0x120088), administrators and the system may do all; the owner and the group come last. */
#define OF_ADMINISTRATORS                                                                                              \
    "0x010004908c0000009c00000000000000140000000200780005000000"                                                       \
    "000418009f011f00" ADMINISTRATORS "0004180088001200" ADMINISTRATORS "0004140088001200" EVERYONE                    \
    "00041800bf011f00" ADMINISTRATORS "00041400bf011f00" SYSTEM ADMINISTRATORS ADMINISTRATORS

/* The flag in $VOLUME_INFORMATION of $Volume, record 3 of the table and of its mirror. */
#define MARK_DIRTY                                                                                                     \
    "python3 - $2.raw <<'END'\n"                                                                                       \
    "import struct, sys\n"                                                                                             \
    "f = open(sys.argv[1], 'r+b')\n"                                                                                   \
    "boot = f.read(512)\n"                                                                                             \
    "cluster = boot[13] * 512\n"                                                                                       \
    "for table in struct.unpack_from('<QQ', boot, 48):\n"                                                              \
    "    f.seek(table * cluster + 3 * 1024)\n"                                                                         \
    "    record = bytearray(f.read(1024))\n"                                                                           \
    "    at = record.index(struct.pack('<I', 0x70), 56)\n"                                                             \
    "    record[at + record[at + 20] + 10] |= 1\n"                                                                     \
    "    f.seek(table * cluster + 3 * 1024)\n"                                                                         \
    "    f.write(record)\n"                                                                                            \
    "END\n"

static void add_answers(VrPersonal *personal)
{
    g_clear_pointer(&personal->hostname, g_free);
    personal->unattend = g_bytes_new_static(ANSWERS, strlen(ANSWERS));
}

static VrPersonal *windows_guest(void)
{
    VrPersonal *personal = personal_of("windows", WINDOWS "echo old > tree/WINDOWS/Panther/Unattend.XML", NTFS);
    add_answers(personal);
    return personal;
}

static void check_windows_guest(void)
{
    tool("sh", "-ec",
         "cd \"$1\"; rm -f see.raw; qemu-img convert -O raw windows.qcow2 see.raw; ntfs-3g.probe -w see.raw\n"
         "unshare -m sh -ec 'mount -t ntfs-3g -o loop,ro see.raw ntfs; cp -r ntfs seen; "
         "getfattr -e hex -n system.ntfs_acl ntfs/WINDOWS/Panther/Unattend.XML > seen.acl; umount ntfs'",
         "sh", dir->path);
    g_autofree char *root = in_dir(dir, "seen"), *panther = in_dir(dir, "seen/WINDOWS/Panther");
    g_autofree char *text = content_of(dir, "seen/WINDOWS/Panther/Unattend.XML");
    g_autofree char *list = content_of(dir, "seen.acl");
    assert_string_equal(text, ANSWERS);
    assert_int_equal(count_entries(panther), 1); /* it took the place of the old one, whose name has another case */
    assert_int_equal(count_entries(root), 2);    /* nor is anything left there */
    assert_non_null(strstr(list, "system.ntfs_acl=" OF_ADMINISTRATORS "\n"));
}

/* ---- the hostile ones ---- */

static void add_shadow(VrPersonal *personal)
{
    vr_personal_add_file(personal->files, "/etc/shadow", 0640, NULL, "root:*::::::\n", 13);
}

static void add_debian_key(VrPersonal *personal)
{
    vr_personal_add_key(personal, "debian", KEY);
}

static void add_zone(VrPersonal *personal)
{
    personal->timezone = g_strdup("Europe/Paris");
}

static void add_netplan(VrPersonal *personal)
{
    vr_personal_add_file(personal->network, "/etc/netplan/x.yaml", 0, NULL, "x", 1);
}

static void add_directory(VrPersonal *personal)
{
    add(personal, VR_GUEST_FILE_DIRECTORY, "/var/shop", 0700, NULL, "");
}

static void add_link(VrPersonal *personal)
{
    add(personal, VR_GUEST_FILE_LINK, "/var/shop/x", 0700, NULL, "y");
}

static void add_machine_id(VrPersonal *personal)
{
    personal->machine_id = g_strdup("0123456789abcdef0123456789abcdef");
}

static const struct {
    const char *name, *change, *finish;
    void (*more)(VrPersonal *personal);
    const char *text;
} hostile[] = {
    {"loop", "rm -r tree/etc; ln -s etc tree/etc", EXT4, NULL, "/etc is a symbolic link to etc, and not a directory"},
    {"fifo", "mkfifo tree/etc/shadow", EXT4, add_shadow, "/etc/shadow is a FIFO, a socket or a device"},
    {"device", "mknod tree/etc/shadow b 8 0", EXT4, add_shadow, "/etc/shadow is a FIFO, a socket or a device"},
    {"link", "ln -s /etc/passwd tree/etc/shadow", EXT4, add_shadow, "/etc/shadow is a symbolic link to /etc/passwd"},
    {"dirlink", "ln -s /etc tree/var/shop", EXT4, add_directory, "/var/shop is a symbolic link to /etc, and not a dir"},
    {"through", "ln -s /etc tree/var/shop", EXT4, add_link,
     "/var/shop is a symbolic link to /etc, and not a directory"},
    {"linkdir", "mkdir -p tree/var/shop/x", EXT4, add_link, "/var/shop/x is a directory, and not a file or a symbolic"},
    {"cloud", "mkdir tree/etc/cloud; ln -s /etc tree/etc/cloud/cloud.cfg.d", EXT4, add_host_key,
     "/etc/cloud/cloud.cfg.d is a symbolic link to /etc, and not a directory"},
    {"clouds", "ln -s clouds tree/etc/cloud", EXT4, add_host_key,
     "/etc/cloud is a symbolic link to clouds, and not a directory"},
    {"dbus", "mkdir tree/var/lib; ln -s /etc tree/var/lib/dbus", EXT4, add_machine_id,
     "/var/lib/dbus is a symbolic link to /etc, and not a directory"},
    {"var", "rm -r tree/var; ln -s var tree/var", EXT4, add_machine_id,
     "/var is a symbolic link to var, and not a directory"},
    {"nosystem", "rm -rf tree/*", EXT4, NULL, "there is no system on it"},
    {"corrupt", "", EXT4 "dd if=/dev/urandom of=$2.raw bs=1024 seek=2 count=200 conv=notrunc status=none\n", NULL,
     "cannot be mounted"},
    {"two", "", PARTITION "mke2fs -q -F -t ext4 -E offset=22020096 -d tree $2.raw 16M\n", NULL,
     "it has two roots, /dev/sd"},
    {"escape", "printf 'debian:x:1000:1000::/home/../etc:/bin/sh\\n' > tree/etc/passwd", EXT4, add_debian_key,
     "has a part that is empty, '.', '..'"},
    {"sshlink", "ln -s /etc tree/home/debian/.ssh", EXT4, add_debian_key,
     "/home/debian/.ssh is a symbolic link to /etc"},
    {"passwd", "truncate -s 2M tree/etc/passwd", EXT4, add_debian_key, "/etc/passwd is larger than"},
    {"nouser", "echo 'debian:x:-1:1::/' > tree/etc/passwd", EXT4, add_debian_key, "no good line for user 'debian'"},
    {"apart", "echo '/dev/vdb /home ext4 x' >> tree/etc/fstab", EXT4, add_debian_key,
     "lies on a file system of its own (/home"},
    {"nozone", "", EXT4, add_zone, "the guest does not know this timezone"},
    {"nonet", "", EXT4, add_netplan, "/etc/netplan is not there"},
    {"answers", "", EXT4, add_answers, "an answer file (unattend) is for Windows"},
    {"besides", WINDOWS, NTFS, NULL, "there is Windows on it, and a host name cannot be written there"},
    {"earlier", WINDOWS "mkdir tree/WINDOWS/Panther/Unattend; touch tree/WINDOWS/Panther/Unattend/unattend.xml", NTFS,
     add_answers, "/WINDOWS/Panther/Unattend/unattend.xml is there, which Windows setup takes instead"},
    {"junction", WINDOWS "rm -r tree/WINDOWS/Panther; ln -s ../etc tree/WINDOWS/Panther", NTFS, add_answers,
     "/WINDOWS/Panther is a symbolic link to ../etc"},
    {"hibernated", WINDOWS "{ printf hibr; head -c 4092 /dev/zero; } > tree/hiberfil.sys", NTFS, add_answers,
     "its Windows is hibernated"},
    {"dirty", WINDOWS, NTFS MARK_DIRTY, add_answers, "its NTFS was not shut down cleanly"},
    {"data", "rm -r tree/*; mkdir tree/Windows", NTFS, add_answers, "there is no system on it"},
    {"panic", "", EXT4 "tune2fs -e panic $2.raw; debugfs -w -R 'clri <2>' $2.raw 2>/dev/null\n", NULL, "/panic.qcow2"},
};

/* As a run does it: a process that by Landlock writes beneath one directory only, where it cannot mount anything either. What each disk came to
 * is told in a file, a line each: its code and text, or nothing. */
static G_NORETURN void personalize_confined(const VrPersonal *const *disks, guint n, const char *told)
{
    const char *const dirs[] = {dir->path, NULL};
    g_autofree GError **errors = g_new0(GError *, n);
    g_autoptr(GString) text = g_string_new(NULL);
    VrPersonalizeOptions opts = options();

    if (vr_confine_version() > 0 && !vr_confine(dirs, NULL))
        _exit(2);
    gboolean all = vr_personalize(disks, n, &opts, errors, NULL);
    for (guint i = 0; i < n; i++)
        g_string_append_printf(text, "%s\n", errors[i] ? errors[i]->message : "");
    _exit(g_file_set_contents(told, text->str, -1, NULL) ? all : 3);
}

/* What each disk came to: "", or what is wrong. */
static char **outcomes(const VrPersonal *const *disks, guint n, gboolean all_good)
{
    g_autofree char *told = in_dir(dir, "told"), *text = NULL;
    int status = 0;
    pid_t us = fork();
    if (us == 0)
        personalize_confined(disks, n, told);
    assert_int_equal(waitpid(us, &status, 0), us);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), all_good);
    assert_true(g_file_get_contents(told, &text, NULL, NULL));
    return g_strsplit(text, "\n", -1);
}

static char *digest(const char *name)
{
    g_autofree char *path = in_dir(dir, name);
    g_autofree char *bytes = NULL;
    gsize length;
    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    return sha256_of(bytes, length);
}

static void good_and_hostile_disks_in_one_appliance(void **state)
{
    enum { GOOD = 5, ALL = GOOD + G_N_ELEMENTS(hostile) };
    VrPersonal *disks[ALL];
    guint n = 0;

    disks[n++] = systemd_guest();
    for (gsize i = 0; i < G_N_ELEMENTS(hostile); i++) {
        VrPersonal *one = disks[n++] = personal_of(hostile[i].name, hostile[i].change, hostile[i].finish);
        if (hostile[i].more)
            hostile[i].more(one);
    }
    disks[n++] = rc_guest();
    disks[n++] = labelled_guest();
    disks[n++] = guest_with_many_files();
    disks[n++] = windows_guest();
    for (guint i = 0; i < n; i++)
        if (!vr_disk_is_plain(disks[i]->disk, VR_FORMAT_QCOW2))
            fail_msg("%s would be alone", disks[i]->disk);
    g_autofree char *before = digest("ext4.raw");
    g_auto(GStrv) said = outcomes((const VrPersonal *const *)disks, n, FALSE);
    assert_string_equal(said[0], "");
    for (guint i = n - (GOOD - 1); i < n; i++)
        assert_string_equal(said[i], "");
    for (guint i = 0; i < G_N_ELEMENTS(hostile); i++)
        if (!strstr(said[1 + i], disks[1 + i]->disk) || !strstr(said[1 + i], hostile[i].text))
            fail_msg("%s: '%s'", hostile[i].name, said[1 + i]);
    check_systemd_guest();
    check_rc_guest();
    check_labelled_guest();
    check_windows_guest();
    g_autofree char *after = digest("ext4.raw");
    assert_string_equal(after, before); /* the base */
    for (guint i = 0; i < n; i++)
        vr_personal_free(disks[i]);
}

/* One in an appliance of its own; its error. */
static char *outcome_of(VrPersonal *personal)
{
    GError *errors[1];
    g_autoptr(GError) error = NULL;
    VrPersonalizeOptions opts = options();
    const VrPersonal *disks[] = {personal};
    (void)vr_personalize(disks, 1, &opts, errors, &error);
    expect_no_error(error);
    vr_personal_free(personal);
    char *text = g_strdup(errors[0] ? errors[0]->message : "done");
    g_clear_error(&errors[0]);
    return text;
}

static void an_encrypted_root_is_said_to_be_one(void **state)
{
    VrPersonal *personal = personal_of("luks", "",
                                       "truncate -s 40M $2.raw; echo secret | cryptsetup luksFormat -q --type luks1 "
                                       "--pbkdf-force-iterations 1000 $2.raw -\n");
    assert_false(vr_disk_is_plain(personal->disk, VR_FORMAT_QCOW2));
    g_autofree char *said = outcome_of(personal);
    if (!strstr(said, "its root is encrypted (LUKS"))
        fail_msg("%s", said);
}

/* ---- VR_FULL=1: what gets an appliance of its own ---- */

static void on_btrfs(void **state)
{
    if (!full())
        return;
    VrPersonal *personal =
        personal_of("btrfs", "",
                    "truncate -s 200M $2.raw; mkfs.btrfs -q $2.raw; mkdir -p small; mount -o loop $2.raw small\n"
                    "btrfs -q subvolume create small/@; cp -a tree/. small/@/; umount small\n");
    assert_false(vr_disk_is_plain(personal->disk, VR_FORMAT_QCOW2));
    g_autofree char *said = outcome_of(personal);
    assert_string_equal(said, "done");
    tool("sh", "-c",
         "cd \"$1\"; qemu-img convert -O raw btrfs.qcow2 see.raw; mkdir -p root; mount -o loop,ro see.raw root", "sh",
         dir->path);
    expect_file("/@/etc/hostname", "btrfs\n", 0644, 0, 0);
    umount_disk();
}

/* A group "vg" with a root on each of two disks. They can be made in one appliance since LVM is told to look at one disk at a time. */
static void make_groups(const char *const *paths)
{
    static const char *const names[] = {"/dev/sda", "/dev/sdb"};
    guestfs_h *g = guestfs_create();
    g_autofree char *tar = in_dir(dir, "tree.tar");
    assert_int_equal(guestfs_set_backend(g, "direct"), 0);
    assert_int_equal(guestfs_set_backend_setting(g, "force_tcg", "1"), 0);
    for (guint i = 0; i < 2; i++)
        assert_int_equal(guestfs_add_drive_opts(g, paths[i], GUESTFS_ADD_DRIVE_OPTS_FORMAT, "raw", -1), 0);
    assert_int_equal(guestfs_launch(g), 0);
    for (guint i = 0; i < 2; i++) {
        char *devices[] = {(char *)names[i], NULL};
        assert_int_equal(guestfs_lvm_set_filter(g, devices), 0);
        assert_int_equal(guestfs_pvcreate(g, names[i]), 0);
        assert_int_equal(guestfs_vgcreate(g, "vg", devices), 0);
        assert_int_equal(guestfs_lvcreate(g, "root", "vg", 24), 0);
        assert_int_equal(guestfs_mkfs(g, "ext4", "/dev/vg/root"), 0);
        assert_int_equal(guestfs_mount(g, "/dev/vg/root", "/"), 0);
        assert_int_equal(guestfs_tar_in(g, tar, "/"), 0);
        assert_int_equal(guestfs_umount_all(g), 0);
        assert_int_equal(guestfs_vg_activate_all(g, 0), 0);
    }
    assert_int_equal(guestfs_shutdown(g), 0);
    guestfs_close(g);
}

static void on_lvm_and_two_groups_of_one_name(void **state)
{
    if (!full())
        return;
    g_autofree char *a = in_dir(dir, "pv-a.raw"), *b = in_dir(dir, "pv-b.raw");
    const char *const paths[] = {a, b};
    g_autofree char *script = g_strconcat(tree, "tar -C tree -cf tree.tar .; truncate -s 40M pv-a.raw pv-b.raw", NULL);
    tool("sh", "-c", script, "sh", dir->path);
    make_groups(paths);
    VrPersonal *one = personal_of("lvm", "", "mv pv-a.raw $2.raw; cp $2.raw pv-a.raw");
    VrPersonal *two =
        personal_of("vgs", "",
                    "truncate -s 90M $2.raw; printf 'start=2048,size=40MiB\\nsize=40MiB\\n' | sfdisk -q $2.raw\n"
                    "dd if=pv-a.raw of=$2.raw bs=1M seek=1 conv=notrunc status=none\n"
                    "dd if=pv-b.raw of=$2.raw bs=1M seek=41 conv=notrunc status=none\n");
    assert_false(vr_disk_is_plain(one->disk, VR_FORMAT_QCOW2));
    assert_false(vr_disk_is_plain(two->disk, VR_FORMAT_QCOW2));
    g_autofree char *said_one = outcome_of(one), *said_two = outcome_of(two);
    assert_string_equal(said_one, "done");
    if (!strstr(said_two, "two volume groups of the name 'vg'"))
        fail_msg("%s", said_two);
}

/* An argument picks tests by their names. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_and_hostile_disks_in_one_appliance),
        cmocka_unit_test(an_encrypted_root_is_said_to_be_one),
        cmocka_unit_test(on_btrfs),
        cmocka_unit_test(on_lvm_and_two_groups_of_one_name),
    };
    cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("personalize with an appliance", tests, set_up, tear_down);
}
