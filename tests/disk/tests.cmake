# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(disk version LINK vr_disk)
vr_test(disk image_check LINK vr_disk)
vr_test(disk copy LINK vr_disk)
vr_test(disk disk_file LINK vr_disk)
vr_test(disk store LINK vr_disk)
vr_test(disk publish LINK vr_disk)
vr_test(disk overlay LINK vr_disk)
