"""Reading what apt prints, and choosing from it."""

from loopcast.node.packages import dependencies, relocated, selection

PRINTED = """\
rabbitmq-server
  Depends: adduser
 |Depends: erlang-base
  Depends: <erlang-base-hipe>
  Depends: erlang-crypto
  Depends: lsb-base
    sysvinit-utils
  Depends: <python3:any>
    python3
erlang-base
  PreDepends: procps
  Depends: libc6
  Depends: libtinfo6
erlang-crypto
  Depends: erlang-base
  Depends: libssl3
<python3:any>
libtinfo6
  Depends: libc6
libc6
libssl3
  Depends: libc6
procps
adduser
"""


def test_dependencies_are_read_with_their_alternatives():
    """Lines joined by a bar are one dependency of which one package is enough; providers are not dependencies."""
    read = dependencies(PRINTED)

    assert [["adduser"], ["erlang-base", "<erlang-base-hipe>"], ["erlang-crypto"], ["lsb-base"], ["<python3:any>"]] == (
        read["rabbitmq-server"]
    )
    assert [["procps"], ["libc6"], ["libtinfo6"]] == read["erlang-base"]
    assert [] == read["libc6"]


def test_the_server_its_erlang_and_missing_libraries_are_selected():
    """What a system broker needs beyond that, and libraries that are there already, are left alone."""
    selected = selection(dependencies(PRINTED), installed={"libc6", "libssl3"})

    assert ["erlang-base", "erlang-crypto", "libtinfo6", "rabbitmq-server"] == selected


def test_erlang_is_fetched_even_where_it_is_installed():
    """Half of Erlang from the system and half from a folder would be two runtimes."""
    selected = selection(dependencies(PRINTED), installed={"erlang-base", "libc6", "libssl3", "libtinfo6"})

    assert ["erlang-base", "erlang-crypto", "rabbitmq-server"] == selected


def test_nothing_is_selected_where_apt_does_not_know_the_server():
    """Empty package lists select nothing, so that the caller can fetch lists."""
    assert [] == selection(dependencies("libc6\n"), installed=set())


def test_circular_dependencies_end():
    """Packages that depend on each other are each selected once."""
    circular = {"rabbitmq-server": [["erlang-a"]], "erlang-a": [["erlang-b"]], "erlang-b": [["erlang-a"]]}

    assert ["erlang-a", "erlang-b", "rabbitmq-server"] == selection(circular, installed=set())


def test_the_erl_script_finds_the_runtime_beside_itself():
    """Every line that fixes the runtime's folder is replaced, and no other."""
    script = 'if true\nthen\n    ROOTDIR=/usr/lib/erlang\nfi\nBINDIR="$ROOTDIR/erts-13/bin"\n'

    expected = 'if true\nthen\n    ROOTDIR="$(cd "$(dirname "$0")/.." && pwd)"\nfi\nBINDIR="$ROOTDIR/erts-13/bin"\n'
    assert expected == relocated(script)
    assert expected == relocated(expected)
