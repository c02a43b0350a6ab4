# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(fault errors LINK vr_engine engine_support SOURCES fault/io_fault.c fault/fake_personalize.c)
target_link_options(test_errors PRIVATE ${FAKE_PERSONALIZE})
vr_test(fault disk_full LINK vr_engine engine_support)
set_tests_properties(fault/errors PROPERTIES TIMEOUT 5400) # VR_FULL=1: every point
set_tests_properties(fault/disk_full PROPERTIES TIMEOUT 600) # a slow disk

add_executable(power_world fault/power_world.c)
target_include_directories(power_world PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_link_libraries(power_world PRIVATE engine_support vr_engine)
add_test(NAME fault/power COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/fault/power.py --program $<TARGET_FILE:power_world>)
set_tests_properties(fault/power PROPERTIES TIMEOUT 3600 SKIP_RETURN_CODE 77)
