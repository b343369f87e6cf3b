# vmwatch-master's package: the panel, the master, the operator's command, the checks. See functions.sh.

PACKAGE=master
SERVICES='vmwatch-panel vmwatch-master'
UNITS='vmwatch-periodic-master.timer vmwatch-periodic-node.timer vmwatch-nodectl.socket vmwatch-servicectl.socket'
ALTERNATIVE_PRIORITY=20
ENABLED=$PREFIX/lib/vmwatch-master/enabled-units

before_install() {
    check_host_file
    refuse_beside_vmmanager
}

# Users, and whose the folders and files are; without a package packaging/rights calls it.
give_rights() {
    make_user vmwatch
    folder "$ETC" root vmwatch 1775 vmwatch
    folder "$VAR" root vmwatch-node 1775 vmwatch
    folder "$VAR/run" root vmwatch-node 1775 vmwatch
    own_files vmwatch "$ETC"/vmwatch-master.conf* "$ETC"/vmwatch-ssh-k* "$ETC"/vmwatch-libvirt-* \
        "$VAR"/vmwatch-master.* "$VAR"/vmwatch-panel.* "$VAR"/vmwatch-periodic.* "$VAR"/vmwatch-eventlistener.log* \
        "$VAR"/run/vmwatch-master.* "$VAR"/run/vmwatch-panel.* "$VAR"/run/vmwatch-periodic*
    if ! is_external; then
        own_files vmwatch "$ETC/vmmgr.conf"
    fi
}

# What it needs on this machine, whether it is new or not.
prepare() {
    find_folders
    give_rights
    link_healthcheck master
    reload_systemd
}

after_install() {
    prepare
    if is_external; then
        upkeep master start vmwatch-master
    else
        start_units
        # What cannot be started now, as where an image is made, comes with the next boot.
        if ! has_systemd || ! may_start vmwatch-panel start; then
            enable_unit vmwatch-panel.service || :
        fi
        # shellcheck disable=SC2086 # several words
        upkeep master start $SERVICES
    fi
}

# The new panel configures the services by itself where it finds nodes and no vmwatch-master.conf.
after_upgrade() {
    prepare
    is_external || start_units
    # shellcheck disable=SC2086 # several words
    upkeep master restart $SERVICES
}

# Timers, and sockets that stand for commands. Each is enabled once: what an administrator disables stays so.
start_units() {
    for unit in $UNITS; do
        if ! grep -q -x -F "$unit" "$ENABLED" 2>/dev/null && enable_unit "$unit"; then
            echo "$unit" >>"$ENABLED"
        fi
        if has_systemd && may_start "$unit" start && systemctl --quiet is-enabled "$unit"; then
            systemctl start "$unit" || :
        fi
    done
}

before_remove() {
    if has_systemd; then
        for unit in $UNITS; do
            systemctl disable --now "$unit" >/dev/null 2>&1 || :
        done
    fi
    rm -f "$ENABLED"
    # The panel first: it would start the others again.
    # shellcheck disable=SC2086 # several words
    upkeep master stop $SERVICES
    unlink_healthcheck master
}

after_remove() {
    remove_programs
    # shellcheck disable=SC2086 # several words
    forget_units $SERVICES $UNITS
    reload_systemd
}

# Everything that is ours. The panel's file is VMmanager's where that is in charge.
purge() {
    find_folders
    # shellcheck disable=SC2086 # several words
    remove_state $SERVICES vmwatch-periodic vmwatch-eventlistener
    # What a master that was killed leaves. `find` follows no link that its user may have put there.
    find "$VAR/run/vmwatch-master.ipc" -depth \( -type s -o -type d -empty \) -delete 2>/dev/null || :
    remove_files "$ETC"/vmwatch-ssh-key* "$ETC"/.vmwatch-ssh-k* "$ETC"/vmwatch-ssh-known-hosts* \
        "$ETC"/vmwatch-libvirt-* "$ETC"/.vmwatch-libvirt-*
    if ! is_external && [ -z "$(vmmanager_file)" ]; then
        remove_files "$ETC/vmmgr.conf"
    fi
    remove_empty_folders vmwatch
    remove_user vmwatch
}
