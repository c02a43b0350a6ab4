# SPDX-License-Identifier: LGPL-2.1-or-later
# Warnings, sanitizers and the one way in which a folder becomes a library.

option(VR_WERROR "Treat warnings as errors" ON)
set(VR_SANITIZE "" CACHE STRING "Sanitizers: address,undefined or thread")
set(VR_SCRATCH "" CACHE PATH "Where the tests of the engine put their files; empty: TMPDIR")
option(VR_COVERAGE "Instrument for gcov" OFF)

add_library(vr_options INTERFACE)
target_include_directories(vr_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(vr_options INTERFACE
  _GNU_SOURCE _FILE_OFFSET_BITS=64 G_LOG_DOMAIN="virt-reimage" VR_VERSION="${PROJECT_VERSION}"
  GLIB_VERSION_MIN_REQUIRED=GLIB_VERSION_2_74 GLIB_VERSION_MAX_ALLOWED=GLIB_VERSION_2_74)
target_compile_options(vr_options INTERFACE
  -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wundef -Wwrite-strings -Wpointer-arith -Wstrict-prototypes
  -Wmissing-prototypes -Wold-style-definition -Wredundant-decls -Wcast-align -Wimplicit-fallthrough
  -Wno-unused-parameter -Wno-missing-field-initializers -fstack-protector-strong -fno-common)
if(VR_WERROR)
  target_compile_options(vr_options INTERFACE -Werror)
endif()
if(VR_SANITIZE)
  target_compile_options(vr_options INTERFACE -fsanitize=${VR_SANITIZE} -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(vr_options INTERFACE -fsanitize=${VR_SANITIZE})
endif()
if(VR_COVERAGE)
  target_compile_options(vr_options INTERFACE --coverage)
  target_link_options(vr_options INTERFACE --coverage)
endif()

# vr_folder(NAME SOURCES ... LINK ...): the static library vr_NAME.
function(vr_folder name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(vr_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(vr_${name} PUBLIC vr_options ${ARG_LINK})
endfunction()
