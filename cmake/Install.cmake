# `cmake --install`: the program, the libraries it cannot expect on another machine (found beside it by a relative
# RPATH), recipes, documents.
include(GNUInstallDirs)

# Bundled libraries go to lib, not to a multi-architecture folder: $ORIGIN/../lib must hold wherever the tree is moved.
set(bundle_dir lib)

# Installs a shared library under the name the program asks the loader for, unless the system provides it.
function(tcompress_bundle file name)
  get_filename_component(folder ${file} DIRECTORY)
  if(folder IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
    return()
  endif()
  file(REAL_PATH ${file} real)
  install(FILES ${real} DESTINATION ${bundle_dir} RENAME ${name}
    PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endfunction()

if(TARGET tcompress)
  set_target_properties(tcompress PROPERTIES INSTALL_RPATH "$ORIGIN/../${bundle_dir}")
  install(TARGETS tcompress RUNTIME DESTINATION bin)

  get_target_property(onednn_file DNNL::dnnl IMPORTED_LOCATION_RELEASE)
  get_target_property(onednn_name DNNL::dnnl IMPORTED_SONAME_RELEASE)
  tcompress_bundle(${onednn_file} ${onednn_name})

  get_filename_component(openblas_name ${OPENBLAS_LIBRARY} NAME)
  tcompress_bundle(${OPENBLAS_LIBRARY} ${openblas_name})
  # The Fortran runtime the OpenBLAS package brings, with names of its own.
  file(GLOB fortran_runtime ${OPENBLAS_DIR}/libgfortran-*.so* ${OPENBLAS_DIR}/libquadmath-*.so*)
  foreach(library IN LISTS fortran_runtime)
    get_filename_component(name ${library} NAME)
    tcompress_bundle(${library} ${name})
  endforeach()

  # The man page and the completions are the program's own account of its options.
  set(generated ${PROJECT_BINARY_DIR}/generated)
  function(tcompress_generate name folder)
    install(CODE "
      file(MAKE_DIRECTORY ${generated})
      execute_process(COMMAND $<TARGET_FILE:tcompress> ${ARGN} OUTPUT_FILE ${generated}/${name} COMMAND_ERROR_IS_FATAL ANY)")
    install(FILES ${generated}/${name} DESTINATION ${folder})
  endfunction()
  tcompress_generate(tcompress.1 ${CMAKE_INSTALL_MANDIR}/man1 man)
  tcompress_generate(tcompress ${CMAKE_INSTALL_DATADIR}/bash-completion/completions completions bash)
  tcompress_generate(_tcompress ${CMAKE_INSTALL_DATADIR}/zsh/site-functions completions zsh)
  tcompress_generate(tcompress.fish ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d completions fish)
endif()

install(DIRECTORY configs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tcompress/configs OPTIONAL)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)
