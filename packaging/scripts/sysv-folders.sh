
# Where configuration and state are, for the whole machine: see the packages' page "Installing vmwatch".
told=$(sed -n 's/^prefix=//p' /etc/default/vmwatch 2>/dev/null | tail -n 1)
PREFIX=${told:-$PREFIX}
ETC=$PREFIX/etc VAR=$PREFIX/var
if [ "$PREFIX" = / ]; then
    ETC=/etc/vmwatch VAR=/var/lib/vmwatch
fi
