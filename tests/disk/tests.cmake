# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(disk version LINK vr_disk)
vr_test(disk image_check LINK vr_disk)
vr_test(disk image_check_rules LINK vr_disk)
vr_test(disk image_check_parts LINK vr_disk)
vr_test(disk image_check_tool LINK vr_disk)
vr_test(disk image_check_again LINK vr_disk)
vr_test(disk differential LINK vr_disk)
set_tests_properties(disk/differential PROPERTIES TIMEOUT 600) # VR_FULL=1: 240 s
vr_test(disk copy LINK vr_disk)
vr_test(disk copy_faults LINK vr_disk)
vr_test(disk convert LINK vr_disk)
set_tests_properties(disk/copy PROPERTIES LABELS threads)
set_tests_properties(disk/copy disk/copy_faults disk/convert PROPERTIES TIMEOUT 300) # a slow disk
vr_test(disk disk_file LINK vr_disk)
vr_test(disk image_boot LINK vr_disk)
vr_test(disk store LINK vr_disk)
vr_test(disk publish LINK vr_disk)
vr_test(disk import LINK vr_disk)
vr_test(disk overlay LINK vr_disk)
vr_test(disk clone LINK vr_disk)
set_tests_properties(disk/clone PROPERTIES LABELS threads TIMEOUT 300) # a slow disk
# GLib hands slices from one thread to another in ways that ThreadSanitizer does not see.
set_tests_properties(disk/clone PROPERTIES ENVIRONMENT G_SLICE=always-malloc)
vr_test(disk sums LINK vr_disk)
vr_test(disk signature LINK vr_disk)
vr_test(disk input LINK vr_disk)
vr_test(disk delete LINK vr_disk)
include(bench/bench.cmake)
