# SPDX-License-Identifier: LGPL-2.1-or-later
# The library stands before the C library: what it counts is what the program calls.
add_library(points SHARED fault/points.c)
target_include_directories(points PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_compile_definitions(points PRIVATE _GNU_SOURCE)
target_compile_options(points PRIVATE -Wall -Wextra) # and no sanitizer: it is there before that is
target_link_libraries(points PRIVATE ${CMAKE_DL_LIBS})

add_executable(sweep fault/sweep.c fault/sweep_check.c fault/sweep_hv.c fault/sweep_kill.c fault/sweep_libvirt.c
    fault/sweep_scenarios.c fault/sweep_tree.c fault/sweep_world.c fault/fake_personalize.c)
target_include_directories(sweep PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_link_options(sweep PRIVATE -Wl,--wrap=vr_connection_volume_path -Wl,--wrap=vr_personalize -Wl,--wrap=vr_personalize_read)
target_link_libraries(sweep PRIVATE points fake_hv vr_engine PkgConfig::JANSSON)
# A random part of each sweep; tests/run --full runs all of them.
add_test(NAME fault/sweep COMMAND sweep --seconds 6)
set_tests_properties(fault/sweep PROPERTIES TIMEOUT 300)
if(VR_SCRATCH)
  set_property(TEST fault/sweep PROPERTY ENVIRONMENT "TMPDIR=${VR_SCRATCH}")
endif()
# The scripted hypervisor against libvirt.
vr_test(hv both LINK points fake_hv vr_engine SOURCES hv/both_fake.c hv/both_real.c hv/both_say.c hv/both_text.c hv/private_libvirtd.c fault/sweep_hv.c)
set_tests_properties(hv/both PROPERTIES TIMEOUT 600)
