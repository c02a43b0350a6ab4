# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(orchestrator config LINK vr_orchestrator)
vr_test(orchestrator error_json LINK vr_orchestrator PkgConfig::JANSSON)
vr_test(orchestrator model LINK vr_orchestrator)
vr_test(orchestrator model_change LINK vr_orchestrator)
vr_test(orchestrator model_health LINK vr_orchestrator)
vr_test(orchestrator model_extensions LINK vr_orchestrator)
vr_test(orchestrator model_notice LINK vr_orchestrator)
vr_test(orchestrator model_profile LINK vr_orchestrator)
vr_test(orchestrator model_offline LINK vr_orchestrator)
vr_test(orchestrator kvm_proof LINK vr_orchestrator)
vr_test(orchestrator os_offline LINK vr_orchestrator)
add_dependencies(test_os_offline virt-reimage-personalize)
file(CREATE_LINK ../virt-reimage-personalize ${CMAKE_CURRENT_BINARY_DIR}/virt-reimage-personalize SYMBOLIC) # beside whoever starts it
vr_test(orchestrator model_policy LINK vr_orchestrator)
vr_test(orchestrator model_outside LINK vr_orchestrator)
vr_test(orchestrator model_window LINK vr_orchestrator)
vr_test(orchestrator model_windows LINK vr_orchestrator)
vr_test(orchestrator model_without LINK vr_orchestrator)
vr_test(orchestrator model_schema LINK vr_orchestrator PkgConfig::JANSSON)
add_test(NAME orchestrator/model_schema_documents
  COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/orchestrator/model_schema.py
    ${PROJECT_SOURCE_DIR}/docs/model.schema.json
    $<TARGET_FILE:test_model> $<TARGET_FILE:test_model_health> $<TARGET_FILE:test_model_notice> $<TARGET_FILE:test_model_policy>
    $<TARGET_FILE:test_model_extensions> $<TARGET_FILE:test_model_outside> $<TARGET_FILE:test_model_window> $<TARGET_FILE:test_model_windows> $<TARGET_FILE:test_model_profile>
    $<TARGET_FILE:test_model_offline>)
set_tests_properties(orchestrator/model_schema_documents PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77)
vr_test(orchestrator fd_lines LINK vr_orchestrator PkgConfig::JANSSON)
vr_test(orchestrator job_environment LINK vr_orchestrator)
vr_test(orchestrator planner LINK vr_orchestrator)
vr_test(orchestrator planner_labels LINK vr_orchestrator)
vr_test(orchestrator rollout LINK vr_orchestrator)
vr_test(orchestrator documents LINK vr_orchestrator)
vr_test(orchestrator rollout_ends LINK vr_orchestrator)
vr_test(orchestrator rollout_holds LINK vr_orchestrator)
vr_test(orchestrator rollout_labels LINK vr_orchestrator)
vr_test(orchestrator rollout_ahead LINK vr_orchestrator)
vr_test(orchestrator rollout_notice LINK vr_orchestrator)
vr_test(orchestrator rollout_window LINK vr_orchestrator PkgConfig::JANSSON)
vr_test(orchestrator rollout_saved LINK vr_orchestrator)
vr_test(orchestrator window LINK vr_orchestrator)
vr_test(orchestrator run_answers LINK vr_orchestrator)

vr_test(orchestrator health LINK vr_orchestrator)
vr_test(orchestrator health_net LINK vr_orchestrator)
vr_test(orchestrator outside LINK vr_orchestrator)
vr_test(orchestrator health_rules LINK vr_orchestrator)
vr_test(orchestrator health_source LINK vr_orchestrator)
vr_threaded(orchestrator/health_net orchestrator/health_source)
# As disk/clone.
set_property(TEST orchestrator/health_source APPEND PROPERTY ENVIRONMENT G_SLICE=always-malloc)
vr_test(orchestrator extensions LINK vr_orchestrator PkgConfig::JANSSON SOURCES orchestrator/host_agent.c)
vr_test(orchestrator extensions_lost LINK vr_orchestrator PkgConfig::JANSSON SOURCES orchestrator/host_agent.c)
vr_test(orchestrator extension_files LINK vr_orchestrator)
vr_test(orchestrator notice LINK vr_orchestrator PkgConfig::JANSSON)
vr_test(orchestrator registry LINK vr_orchestrator engine_support)
vr_test(orchestrator registry_auto LINK vr_orchestrator engine_support)
vr_test(orchestrator trigger LINK vr_orchestrator)
vr_test(orchestrator history_prune LINK vr_orchestrator engine_support)
vr_test(orchestrator tallies LINK vr_orchestrator engine_support)
vr_test(orchestrator outbox LINK points vr_orchestrator engine_support PkgConfig::JANSSON)
vr_test(orchestrator outbox_deliver LINK vr_orchestrator engine_support PkgConfig::JANSSON)
set_tests_properties(orchestrator/outbox orchestrator/outbox_deliver PROPERTIES TIMEOUT 900) # hundreds of kills, of hooks; VR_FULL=1: every pair of kills
vr_test(orchestrator executor LINK vr_orchestrator engine_support)
vr_threaded(orchestrator/executor)
vr_test(orchestrator executor_extensions LINK vr_orchestrator engine_support PkgConfig::JANSSON SOURCES orchestrator/host_agent.c)
vr_test(orchestrator executor_notice LINK vr_orchestrator engine_support PkgConfig::JANSSON)
vr_test(orchestrator executor_gate LINK vr_orchestrator engine_support PkgConfig::JANSSON)
vr_test(orchestrator executor_window LINK vr_orchestrator engine_support)
vr_threaded(orchestrator/executor_window)
vr_test(orchestrator executor_control LINK vr_orchestrator engine_support)
vr_threaded(orchestrator/executor_control)
# Without that label: GLib's slices go from thread to thread where TSan does not see it, and with hundreds of threads it says so.
vr_test(orchestrator executor_batch LINK vr_orchestrator engine_support PkgConfig::JANSSON SOURCES fault/fake_personalize.c)
target_link_options(test_executor_batch PRIVATE ${FAKE_PERSONALIZE} -Wl,--wrap=vr_personalize_is_possible -Wl,--wrap=vr_kvm_works)

# The simulator of tests/sim: the rollout core in random worlds.
add_executable(sim sim/check.c sim/check_ahead.c sim/check_bake.c sim/check_batch.c sim/check_border.c sim/check_group.c
    sim/check_limits.c sim/check_notice.c sim/check_restart.c sim/check_view.c sim/check_window.c sim/sim.c sim/world.c sim/world_draw.c sim/world_labels.c
    sim/world_person.c sim/world_restart.c sim/world_stopped.c sim/world_window.c)
target_link_libraries(sim PRIVATE vr_orchestrator)
add_test(NAME sim/rollout COMMAND sim --seeds 100000)
set_tests_properties(sim/rollout PROPERTIES TIMEOUT 300)

# The daemon.
vr_test(orchestrator peers LINK vr_daemon)
vr_test(orchestrator route_table LINK vr_daemon)
vr_test(orchestrator model_merge LINK vr_daemon)
vr_test(orchestrator wakes LINK vr_daemon)
vr_test(orchestrator job_launch LINK vr_daemon)
vr_test(orchestrator reports LINK vr_daemon)
add_test(NAME orchestrator/openapi
  COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/orchestrator/openapi.py ${PROJECT_SOURCE_DIR}/docs/openapi.yaml $<TARGET_FILE:test_route_table> $<TARGET_FILE:virt-reimage>)
set_tests_properties(orchestrator/openapi PROPERTIES TIMEOUT 60)

# The page of a run.
set(REPORT ${PROJECT_SOURCE_DIR}/orchestrator/cli/report)
add_executable(report_page orchestrator/report_page.c ${REPORT}.c ${REPORT}_chart.c ${REPORT}_disks.c ${REPORT}_summary.c ${REPORT}_tables.c)
target_link_libraries(report_page PRIVATE vr_base PkgConfig::JANSSON)
add_test(NAME orchestrator/report
  COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/orchestrator/report.py ${PROJECT_SOURCE_DIR}/docs/schemas $<TARGET_FILE:report_page>)
set_tests_properties(orchestrator/report PROPERTIES TIMEOUT 60)
