# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(live live_frame LINK vr_live SOURCES live/simulated.c)
vr_test(live live_expect LINK vr_live SOURCES live/simulated.c)
vr_test(live live_snapshot LINK vr_live engine_support)
vr_test(live live_watch LINK vr_live SOURCES live/simulated.c)
foreach(test live_watch live_snapshot)
  target_link_libraries(test_${test} PRIVATE util) # openpty(), where it is not in the C library
endforeach()
vr_threaded(live/live_watch live/live_snapshot)
add_executable(show_live live/show_live.c live/simulated.c)
target_include_directories(show_live PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_link_libraries(show_live PRIVATE vr_live)
add_test(NAME live/terminal COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/live/terminal.py $<TARGET_FILE:show_live>)
set_tests_properties(live/terminal PROPERTIES TIMEOUT 300)
