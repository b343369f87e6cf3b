# vmwatch-node's package: the agent, what configures it, its probe. See functions.sh.

PACKAGE=node
SERVICES=vmwatch-node
ALTERNATIVE_PRIORITY=10

before_install() {
    check_host_file
    refuse_beside_vmmanager
}

# Users, and whose the folders and files are; without a package packaging/rights calls it.
give_rights() {
    make_user vmwatch-node
    if [ ! -d "$ETC" ]; then
        folder "$ETC" root root 0755 vmwatch-node
    fi
    folder "$VAR" root vmwatch-node 1775 vmwatch-node
    folder "$VAR/run" root vmwatch-node 1775 vmwatch-node
    own_files vmwatch-node "$ETC"/vmwatch-node.conf* "$VAR"/vmwatch-node.* "$VAR"/run/vmwatch-node.*
}

# What it needs on this machine, whether it is new or not.
prepare() {
    find_folders
    give_rights
    link_healthcheck node
    reload_systemd
}

# A node that was configured before starts again; a new one starts nothing, and the panel configures it.
after_install() {
    prepare
    # On the panel's host it waits for this package.
    if has_systemd && systemctl --quiet is-enabled vmwatch-nodectl.socket 2>/dev/null; then
        systemctl start vmwatch-nodectl.socket || :
    fi
    upkeep node start $SERVICES
}

after_upgrade() {
    prepare
    upkeep node restart $SERVICES
}

before_remove() {
    find_folders
    # A configuration under way would start it again: wait for its end. The folder is not root's alone, and a FIFO
    # there would never open.
    lock=$VAR/run/vmwatch-nodectl.lock
    if [ -f "$lock" ] && [ ! -L "$lock" ]; then
        flock --wait 120 "$lock" true || :
    fi
    upkeep node stop $SERVICES
    unlink_healthcheck node
}

after_remove() {
    remove_programs
    forget_units $SERVICES
    reload_systemd
}

purge() {
    find_folders
    remove_state $SERVICES
    remove_files "$VAR"/run/vmwatch-nodectl.lock
    remove_empty_folders vmwatch-node
    remove_user vmwatch-node
}
