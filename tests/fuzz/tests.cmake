# SPDX-License-Identifier: LGPL-2.1-or-later
# vr_fuzz(NAME LINK ...): tests/fuzz/fuzz_NAME.c over tests/fuzz/corpus/NAME. With VR_FUZZ (preset "fuzz", clang) it is a
# libFuzzer program; else a plain test that goes over its corpus once.
option(VR_FUZZ "Build libFuzzer programs (clang)" OFF)

function(vr_fuzz name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(fuzz_${name} fuzz/fuzz_${name}.c)
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_LINK})
  if(VR_FUZZ)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz_${name} PRIVATE fuzz/replay.c)
    add_test(NAME fuzz/${name} COMMAND fuzz_${name} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
  endif()
endfunction()

vr_fuzz(image_check LINK vr_disk)
