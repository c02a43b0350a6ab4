# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(live live_frame LINK vr_live SOURCES live/simulated.c)
vr_test(live live_expect LINK vr_live SOURCES live/simulated.c)
vr_test(live live_snapshot LINK vr_live engine_support)
add_executable(show_live live/show_live.c live/simulated.c)
target_include_directories(show_live PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_link_libraries(show_live PRIVATE vr_live)
add_test(NAME live/terminal COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/live/terminal.py $<TARGET_FILE:show_live>)
set_tests_properties(live/terminal PROPERTIES TIMEOUT 300)
