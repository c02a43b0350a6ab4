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
vr_threaded(disk/copy)
set_tests_properties(disk/copy disk/copy_faults disk/convert PROPERTIES TIMEOUT 300) # a slow disk
vr_test(disk flatten LINK vr_disk)
vr_test(disk temp_disk LINK vr_disk)
vr_test(disk disk_file LINK vr_disk)
vr_test(disk image_boot LINK vr_disk)
vr_test(disk image_esp LINK vr_disk)
vr_test(disk file_proof LINK vr_disk)
vr_test(disk store LINK vr_disk)
vr_test(disk publish LINK vr_disk)
vr_test(disk import LINK vr_disk)
vr_test(disk overlay LINK vr_disk)
vr_test(disk nvram LINK vr_disk)
vr_test(disk seed LINK vr_disk)
vr_test(disk clone LINK vr_disk)
vr_threaded(disk/clone)
set_tests_properties(disk/clone PROPERTIES TIMEOUT 300) # a slow disk
# GLib hands slices from one thread to another in ways that ThreadSanitizer does not see.
set_tests_properties(disk/clone PROPERTIES ENVIRONMENT G_SLICE=always-malloc)
vr_test(disk sums LINK vr_disk)
vr_test(disk signature LINK vr_disk)
vr_test(disk input LINK vr_disk)
vr_test(disk delete LINK vr_disk)
include(bench/bench.cmake)
vr_test(disk personalize LINK vr_disk)
vr_test(disk personalize_appliance LINK vr_disk PkgConfig::GUESTFS)
vr_test(disk personalize_seats LINK vr_disk)
vr_test(disk personalize_launches LINK vr_disk)
vr_test(disk personalize_read LINK vr_disk PkgConfig::GUESTFS SOURCES ${PROJECT_SOURCE_DIR}/disk/personalize_guest.c
  ${PROJECT_SOURCE_DIR}/disk/personalize_root.c ${PROJECT_SOURCE_DIR}/disk/personalize_windows.c ${PROJECT_SOURCE_DIR}/disk/personalize_collect.c)
set_property(TEST disk/personalize_read APPEND PROPERTY ENVIRONMENT "VR_PERSONALIZE=$<TARGET_FILE:virt-reimage-personalize>")
set_tests_properties(disk/personalize_read PROPERTIES TIMEOUT 600) # launches under TCG
add_executable(personalize_helper disk/personalize_helper.c)
target_link_libraries(personalize_helper PRIVATE vr_disk)
add_dependencies(threaded_tests personalize_helper virt-reimage-personalize)
set_property(TEST disk/personalize_appliance APPEND PROPERTY ENVIRONMENT
  "VR_PERSONALIZE=$<TARGET_FILE:virt-reimage-personalize>" "VR_PERSONALIZE_FAKE=$<TARGET_FILE:personalize_helper>")
set_tests_properties(disk/personalize_appliance PROPERTIES TIMEOUT 900) # launches under TCG
set_property(TEST disk/personalize_seats APPEND PROPERTY ENVIRONMENT "VR_PERSONALIZE_FAKE=$<TARGET_FILE:personalize_helper>"
  G_SLICE=always-malloc)
vr_threaded(disk/personalize_seats)
set_property(TEST disk/personalize_launches APPEND PROPERTY ENVIRONMENT "VR_PERSONALIZE_FAKE=$<TARGET_FILE:personalize_helper>")
