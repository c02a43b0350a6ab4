# SPDX-License-Identifier: LGPL-2.1-or-later
# What tests/bench measures with; built on request: cmake --build ... --target vr-bench-copy vr-bench-plan vr-bench-personalize
add_executable(vr-bench-copy EXCLUDE_FROM_ALL bench/bench_copy.c)
target_link_libraries(vr-bench-copy PRIVATE vr_disk)
add_executable(vr-bench-plan EXCLUDE_FROM_ALL bench/bench_plan.c)
target_link_libraries(vr-bench-plan PRIVATE vr_orchestrator)
add_executable(vr-bench-personalize EXCLUDE_FROM_ALL bench/bench_personalize.c)
target_link_libraries(vr-bench-personalize PRIVATE vr_disk)
