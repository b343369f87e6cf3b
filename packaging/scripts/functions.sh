# Functions of the packages' scripts, for Debian's and RPM's alike. Each script begins with a copy of this file: before
# an installation, and after a removal, nothing of a package is there to be read. POSIX sh; run as root.
#
# What is ours is named one by one. A prefix that others use keeps all that is theirs: no file of theirs is read,
# written, moved or removed, and no folder of theirs changes its owner or its mode.

HOST_FILE=/etc/default/vmwatch
PREFIX=/usr/local/mgr5

say() {
    printf 'vmwatch: %s\n' "$*"
}

die() {
    printf 'vmwatch: %s\n' "$*" >&2
    exit 1
}

# A value of the machine's file: NAME DEFAULT. The last line counts, as for nobody else: two are an error of ours to tell.
host_value() {
    value=$(sed -n "s/^$1=//p" "$HOST_FILE" 2>/dev/null | tail -n 1)
    printf '%s\n' "${value:-$2}"
}

is_external() {
    [ "$(host_value panel embedded)" = external ]
}

# Sets ETC and VAR: where configuration and state lie on this machine.
find_folders() {
    chosen=$(host_value prefix "$PREFIX")
    if [ "$chosen" = / ]; then
        ETC=/etc/vmwatch
        VAR=/var/lib/vmwatch
    else
        ETC=$chosen/etc
        VAR=$chosen/var
    fi
}

# Ends with an error that names the line, before anything is installed with it.
check_host_file() {
    case $(host_value panel embedded) in
        embedded | external) ;;
        *) die "$HOST_FILE: panel=$(host_value panel '') is not allowed; embedded or external is" ;;
    esac
    case $(host_value prefix "$PREFIX") in
        *[[:space:]]*) die "$HOST_FILE: prefix: an absolute path without blanks is allowed" ;;
        /*) ;;
        *) die "$HOST_FILE: prefix=$(host_value prefix '') is not allowed; an absolute path is, or /" ;;
    esac
}

# The first file of VMmanager itself in the original's prefix; nothing where it is not installed.
vmmanager_file() {
    for name in bin/core bin/vmmgr sbin/mgrctl sbin/vmmgr etc/vmmgr.lic var/vmmgr.lic lib/libvmmgr.so; do
        if [ -e "$PREFIX/$name" ]; then
            printf '%s\n' "$PREFIX/$name"
            return
        fi
    done
}

refuse_beside_vmmanager() {
    found=$(vmmanager_file)
    if [ -n "$found" ] && ! is_external; then
        die "$found is VMmanager's: two panels would be in charge of one machine, so nothing was installed." \
            "To let vmwatch deliver to that panel, and leave its own out: echo panel=external >>$HOST_FILE"
    fi
}

# --- users and folders ----------------------------------------------------------------------------------------------

# make_user NAME: without a home of its own, a shell or a password. Group vmwatch makes files in ETC, group vmwatch-node
# in VAR; vmwatch is in both. With the sticky bit each user removes and replaces only what is its own.
make_user() {
    for group in vmwatch-node "$1"; do
        getent group "$group" >/dev/null || groupadd --system "$group"
    done
    getent passwd "$1" >/dev/null ||
        useradd --system --gid "$1" --no-create-home --home-dir "$VAR" --shell /usr/sbin/nologin --comment vmwatch "$1"
    usermod --append --groups vmwatch-node "$1"
}

# Whether a folder holds a file that is none of ours: the prefix is shared with whatever else was installed there.
holds_others() {
    for path in "$1"/* "$1"/.[!.]*; do
        [ -e "$path" ] || [ -L "$path" ] || continue
        case ${path##*/} in
            vmwatch-* | .vmwatch-* | vmmgr.conf | run | conf.d) ;;
            *) return 0 ;;
        esac
    done
    return 1
}

# folder PATH OWNER GROUP MODE USER: made if it is not there. One that others use stays as it is: USER is let in by a
# line in its access list.
folder() {
    if [ ! -d "$1" ]; then
        mkdir -p "$(dirname "$1")"
        install -d -o "$2" -g "$3" -m "$4" "$1"
    elif [ "$(stat -c '%U %G %a' "$1")" = "$2 $3 ${4#0}" ]; then
        return 0
    elif [ -n "$(vmmanager_file)" ] || holds_others "$1"; then
        setfacl -m "u:$5:rwx" "$1" || say "$1 is others' and stays as it is; let the user $5 write there"
    else
        chown "$2:$3" "$1"
        chmod "$4" "$1"
    fi
}

# own_files USER PATTERN...: files that an earlier, other installation left to root. A pattern is one of our own names.
own_files() {
    user=$1
    shift
    for path in "$@"; do
        if [ -e "$path" ] && [ ! -L "$path" ] && is_ours "$path"; then
            chown -h "$user:" "$path"
        fi
    done
}

# --- the probe -------------------------------------------------------------------------------------------------------

# Both packages bring vmwatch-healthcheck; on a machine with both the master's is taken.
link_healthcheck() {
    update-alternatives --install /usr/sbin/vmwatch-healthcheck vmwatch-healthcheck \
        "$PREFIX/lib/vmwatch-$1/bin/vmwatch-healthcheck" "$ALTERNATIVE_PRIORITY" \
        --slave /usr/share/man/man8/vmwatch-healthcheck.8.gz vmwatch-healthcheck.8.gz \
        "$PREFIX/lib/vmwatch-$1/share/man/man8/vmwatch-healthcheck.8.gz" >/dev/null
}

unlink_healthcheck() {
    update-alternatives --remove vmwatch-healthcheck "$PREFIX/lib/vmwatch-$1/bin/vmwatch-healthcheck" >/dev/null
}

# --- a first installation, told from an upgrade ----------------------------------------------------------------------

# dpkg tells a postinst of the version before also when that was removed meanwhile, so preinst leaves a mark. It stays
# until all is done: dpkg --configure goes on with an installation that was interrupted.
INSTALLING=/run/vmwatch-installing

mark_install() {
    mkdir -p /run
    : >"$INSTALLING-$1"
}

# is_install PACKAGE [OLD]: whether it is one. Where dpkg knows no version before it is, mark or not.
is_install() {
    [ -z "${2:-}" ] || [ -e "$INSTALLING-$1" ]
}

unmark_install() {
    rm -f "$INSTALLING-$1"
}

# --- services -------------------------------------------------------------------------------------------------------

# Whether the machine's policy lets a package start a service (Debian: invoke-rc.d's policy layer).
may_start() {
    [ ! -x /usr/sbin/policy-rc.d ] || /usr/sbin/policy-rc.d "$1" "$2" >/dev/null 2>&1 || [ $? -ne 101 ]
}

# upkeep PACKAGE VERB SERVICE...: by whatever service manager there is. A failure is told and fails no installation.
upkeep() {
    python=$PREFIX/lib/vmwatch-$1/bin/python
    verb=$2
    shift 2
    for service in "$@"; do
        if [ "$verb" = stop ] || may_start "$service" "$verb"; then
            "$python" -I -m vmwatch.shared.upkeep "$verb" "$service" || :
        else
            say "$service: the policy of this machine does not let packages $verb services"
        fi
    done
}

has_systemd() {
    [ -d /run/systemd/system ] && command -v systemctl >/dev/null
}

reload_systemd() {
    if has_systemd; then
        systemctl daemon-reload || :
    fi
}

# enable_unit NAME: at the next boot, also where systemd does not run yet. A policy that forbids a start says nothing of it.
enable_unit() {
    command -v systemctl >/dev/null && systemctl --quiet enable "$1"
}

# forget_units NAME...: links that "enable" made, of systemd and of System V.
forget_units() {
    for name in "$@"; do
        rm -f /etc/systemd/system/*.wants/"$name" /etc/systemd/system/*.wants/"$name".service
        if [ ! -e "/etc/init.d/$name" ] && command -v update-rc.d >/dev/null; then
            update-rc.d "$name" remove >/dev/null || :
        fi
    done
}

# --- removal --------------------------------------------------------------------------------------------------------

# Whether a file with a name of ours is ours. VMmanager's own subsystem has the same names in the same prefix; there
# only what our users own is.
is_ours() {
    case $1 in
        "$PREFIX"/*) ;;
        *) return 0 ;;
    esac
    [ -z "$(vmmanager_file)" ] && return 0
    case $(stat -c %U "$1") in
        vmwatch | vmwatch-node) return 0 ;;
    esac
    return 1
}

# remove_files PATTERN...: each pattern is of names that only our programs give.
remove_files() {
    for path in "$@"; do
        if { [ -f "$path" ] || [ -L "$path" ] || [ -S "$path" ]; } && is_ours "$path"; then
            rm -f "$path"
        fi
    done
}

# remove_state SERVICE...: what a program of ours writes under its own name in ETC and VAR.
remove_state() {
    for name in "$@"; do
        remove_files "$ETC/$name.conf" "$ETC/$name.conf.good" "$ETC/$name.conf.bad" "$ETC/.$name.conf."* \
            "$VAR/$name".* "$VAR/run/$name".* "$VAR/run/$name-"*.lock \
            "$(conf_d)/$name.conf" "$(conf_d)/.$name.conf."* "/run/$name.pid" "/run/$name.out" "/run/$name.lock"
    done
    rmdir /run/vmwatch 2>/dev/null || :
}

conf_d() {
    if [ "$ETC" = /etc/vmwatch ]; then
        printf '%s\n' "$ETC/conf.d"
    else
        printf '%s\n' "${ETC%/etc}/conf.d"
    fi
}

# What Python has written beside our programs: it compiles them again when it was itself upgraded. All there is ours.
remove_programs() {
    rm -rf "$PREFIX/lib/vmwatch-$PACKAGE"
    rmdir "$PREFIX/lib" 2>/dev/null || :
}

# Whether the other package is here: it may still need what both use.
has_other() {
    for other in master node; do
        if [ "$other" != "$PACKAGE" ] && [ -d "$PREFIX/lib/vmwatch-$other" ]; then
            return 0
        fi
    done
    return 1
}

# Folders that are empty now; the prefix itself with them, unless somebody else has something there.
remove_empty_folders() {
    for path in "$VAR/run" "$VAR" "$(conf_d)" "$ETC"; do
        if [ -d "$path" ]; then
            { ! has_other && rmdir "$path" 2>/dev/null; } || let_out "$path" "$1"
        fi
    done
    for path in "$PREFIX/lib" "$PREFIX"; do
        rmdir "$path" 2>/dev/null || :
    done
}

# let_out FOLDER USER: takes back the line in an access list that `folder` has added.
let_out() {
    if command -v setfacl >/dev/null && getfacl -cp "$1" 2>/dev/null | grep -q "^user:$2:"; then
        setfacl -x "u:$2" "$1" || :
        # The mask that came with our line; an access list that others use keeps its own.
        getfacl -cp "$1" 2>/dev/null | grep -q '^\(user\|group\):[^:]' || setfacl -b "$1" || :
    fi
}

# remove_user NAME: with its group; the group vmwatch-node stays while a user of ours is in it.
remove_user() {
    if getent passwd "$1" >/dev/null; then
        userdel "$1" >/dev/null 2>&1 || say "the user $1 could not be removed"
    fi
    getent passwd vmwatch >/dev/null || remove_group vmwatch
    getent passwd vmwatch >/dev/null || getent passwd vmwatch-node >/dev/null || remove_group vmwatch-node
    give_to_root
}

remove_group() {
    if getent group "$1" >/dev/null; then
        groupdel "$1" || :
    fi
}

# Folders of ours that stay because others have put something there.
give_to_root() {
    for path in "$ETC" "$VAR" "$VAR/run"; do
        if [ -d "$path" ]; then
            case $(stat -c '%U %G' "$path") in
                *UNKNOWN*)
                    chown root:root "$path"
                    chmod 0755 "$path"
                    ;;
            esac
        fi
    done
}

# --- SELinux --------------------------------------------------------------------------------------------------------

contexts() {
    if command -v semanage >/dev/null && selinuxenabled 2>/dev/null; then
        "$PREFIX/lib/vmwatch-$PACKAGE/share/vmwatch/selinux/contexts" "$1" "$PREFIX" || :
    fi
}

label_files() {
    contexts add
}

unlabel_files() {
    has_other || contexts remove
}
