#!/bin/sh
# Installs sapwood out of this unpacked archive: ./install.sh [--prefix DIR] puts it below DIR (~/.local unless you say
# otherwise), ./install.sh --uninstall [--prefix DIR] takes away what was put there, and nothing else.
set -eu

fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

prefix=
uninstall=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -ge 2 ] || fail "--prefix names no folder" "./install.sh --prefix /usr/local"; prefix=$2; shift 2 ;;
        --uninstall) uninstall=1; shift ;;
        -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
        *) fail "\`$1\` is no option" "./install.sh [--prefix DIR] [--uninstall]" ;;
    esac
done
if [ -z "$prefix" ]; then
    [ -n "${HOME:-}" ] || fail "HOME is not set, so there is no ~/.local" "say --prefix DIR"
    prefix=$HOME/.local
fi
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
here=$(cd "$(dirname "$0")" && pwd)
# What was installed, a path below the prefix a line: what --uninstall goes by.
list=$prefix/lib/sapwood/INSTALLED

take_away() {
    while IFS= read -r file; do rm -f "$prefix/$file"; done < "$list"
    rm -f "$list"
    for folder in lib/sapwood/plugins lib/sapwood share/sapwood share/doc/sapwood; do
        [ ! -d "$prefix/$folder" ] || find "$prefix/$folder" -depth -type d -exec rmdir {} + 2> /dev/null || true
    done
}

if [ -n "$uninstall" ]; then
    [ -f "$list" ] || fail "$list is not there: nothing of ours is installed below $prefix" "name the folder with --prefix"
    count=$(wc -l < "$list")
    take_away
    echo "took $count files away from $prefix"
    [ ! -d "$prefix/lib/sapwood" ] || echo "left $prefix/lib/sapwood: it holds files that are not ours"
    exit 0
fi

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || fail "this archive is for Linux on x86_64, not $(uname -s) on $(uname -m)" "build from the sources"
(cd "$here" && sha256sum --quiet -c SHA256SUMS) || fail "the archive is not whole" "fetch and unpack it again"
needed=$(cat "$here/GLIBC")
has=$(getconf GNU_LIBC_VERSION 2> /dev/null | cut -d' ' -f2)
[ -n "$has" ] || fail "this system has no glibc, and plugins are loaded through it" "use a distribution with glibc $needed or later"
oldest=$(printf '%s\n%s\n' "$needed" "$has" | sort -V | head -n 1)
[ "$oldest" = "$needed" ] || fail "glibc $needed or later is needed, this system has $has" "build from the sources on this system"
[ ! -e "$prefix/bin/sapwood" ] || [ -f "$list" ] ||
    fail "$prefix/bin/sapwood is there already, and is not of this script" "move it away, or say another --prefix"

mkdir -p "$prefix/lib/sapwood/plugins" || fail "$prefix cannot be written to" "say another --prefix, or run this as its owner"
if [ -f "$list" ]; then
    echo "replacing what was installed below $prefix before"
    take_away
    mkdir -p "$prefix/lib/sapwood/plugins"
fi
: > "$list"

put() { # MODE FROM TO: installs a file, and says so in the list
    echo "$3" >> "$list"
    mkdir -p "$prefix/$(dirname "$3")"
    cp "$here/$2" "$prefix/$3"
    chmod "$1" "$prefix/$3"
}

put_all() { # FROM TO: every file of a folder, as it lies there
    (cd "$here/$1" && find . -type f | sed 's|^\./||') | while IFS= read -r file; do put 644 "$1/$file" "$2/$file"; done
}

put 755 lib/sapwood/sapwood lib/sapwood/sapwood
# Whatever the umask: folders and plugins that all may write are refused when they are loaded.
chmod go-w "$prefix/lib/sapwood" "$prefix/lib/sapwood/plugins"
put_all lib/sapwood/plugins lib/sapwood/plugins
put_all configs share/sapwood/configs
put_all docs share/doc/sapwood/docs
put_all licences share/doc/sapwood/licences
for text in "$here"/*.md; do put 644 "$(basename "$text")" "share/doc/sapwood/$(basename "$text")"; done
put_all man/man1 share/man/man1
put 644 completions/sapwood.bash share/bash-completion/completions/sapwood
put 644 completions/_sapwood share/zsh/site-functions/_sapwood
put 644 completions/sapwood.fish share/fish/vendor_completions.d/sapwood.fish
mkdir -p "$prefix/bin"
echo bin/sapwood >> "$list"
ln -sf ../lib/sapwood/sapwood "$prefix/bin/sapwood"

echo "installed $("$prefix/bin/sapwood" --version): $(wc -l < "$list") files below $prefix, listed in $list"
case :${PATH:-}: in
    *:"$prefix/bin":*) ;;
    *) echo "$prefix/bin is not on your PATH: add it, or call $prefix/bin/sapwood" ;;
esac
echo "a first study: sapwood study $prefix/share/sapwood/configs/quickstart.toml --out runs/quickstart"
