"""One module per API. Each is imported on first use: a broker needs few of them to start."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.broker.handlers import (
        add_offsets_to_txn as add_offsets_to_txn,
    )
    from headwater.broker.handlers import (
        add_partitions_to_txn as add_partitions_to_txn,
    )
    from headwater.broker.handlers import (
        alter_client_quotas as alter_client_quotas,
    )
    from headwater.broker.handlers import (
        alter_configs as alter_configs,
    )
    from headwater.broker.handlers import (
        alter_partition_reassignments as alter_partition_reassignments,
    )
    from headwater.broker.handlers import (
        alter_replica_log_dirs as alter_replica_log_dirs,
    )
    from headwater.broker.handlers import (
        alter_user_scram_credentials as alter_user_scram_credentials,
    )
    from headwater.broker.handlers import (
        api_versions as api_versions,
    )
    from headwater.broker.handlers import (
        consumer_group_describe as consumer_group_describe,
    )
    from headwater.broker.handlers import (
        consumer_group_heartbeat as consumer_group_heartbeat,
    )
    from headwater.broker.handlers import (
        create_acls as create_acls,
    )
    from headwater.broker.handlers import (
        create_delegation_token as create_delegation_token,
    )
    from headwater.broker.handlers import (
        create_partitions as create_partitions,
    )
    from headwater.broker.handlers import (
        create_topics as create_topics,
    )
    from headwater.broker.handlers import (
        delete_acls as delete_acls,
    )
    from headwater.broker.handlers import (
        delete_groups as delete_groups,
    )
    from headwater.broker.handlers import (
        delete_records as delete_records,
    )
    from headwater.broker.handlers import (
        delete_topics as delete_topics,
    )
    from headwater.broker.handlers import (
        describe_acls as describe_acls,
    )
    from headwater.broker.handlers import (
        describe_client_quotas as describe_client_quotas,
    )
    from headwater.broker.handlers import (
        describe_cluster as describe_cluster,
    )
    from headwater.broker.handlers import (
        describe_configs as describe_configs,
    )
    from headwater.broker.handlers import (
        describe_delegation_token as describe_delegation_token,
    )
    from headwater.broker.handlers import (
        describe_groups as describe_groups,
    )
    from headwater.broker.handlers import (
        describe_log_dirs as describe_log_dirs,
    )
    from headwater.broker.handlers import (
        describe_producers as describe_producers,
    )
    from headwater.broker.handlers import (
        describe_quorum as describe_quorum,
    )
    from headwater.broker.handlers import (
        describe_topic_partitions as describe_topic_partitions,
    )
    from headwater.broker.handlers import (
        describe_transactions as describe_transactions,
    )
    from headwater.broker.handlers import (
        describe_user_scram_credentials as describe_user_scram_credentials,
    )
    from headwater.broker.handlers import (
        elect_leaders as elect_leaders,
    )
    from headwater.broker.handlers import (
        end_txn as end_txn,
    )
    from headwater.broker.handlers import (
        expire_delegation_token as expire_delegation_token,
    )
    from headwater.broker.handlers import (
        fetch as fetch,
    )
    from headwater.broker.handlers import (
        find_coordinator as find_coordinator,
    )
    from headwater.broker.handlers import (
        heartbeat as heartbeat,
    )
    from headwater.broker.handlers import (
        incremental_alter_configs as incremental_alter_configs,
    )
    from headwater.broker.handlers import (
        init_producer_id as init_producer_id,
    )
    from headwater.broker.handlers import (
        join_group as join_group,
    )
    from headwater.broker.handlers import (
        leave_group as leave_group,
    )
    from headwater.broker.handlers import (
        list_config_resources as list_config_resources,
    )
    from headwater.broker.handlers import (
        list_groups as list_groups,
    )
    from headwater.broker.handlers import (
        list_offsets as list_offsets,
    )
    from headwater.broker.handlers import (
        list_partition_reassignments as list_partition_reassignments,
    )
    from headwater.broker.handlers import (
        list_transactions as list_transactions,
    )
    from headwater.broker.handlers import (
        metadata as metadata,
    )
    from headwater.broker.handlers import (
        offset_commit as offset_commit,
    )
    from headwater.broker.handlers import (
        offset_delete as offset_delete,
    )
    from headwater.broker.handlers import (
        offset_fetch as offset_fetch,
    )
    from headwater.broker.handlers import (
        offset_for_leader_epoch as offset_for_leader_epoch,
    )
    from headwater.broker.handlers import (
        produce as produce,
    )
    from headwater.broker.handlers import (
        renew_delegation_token as renew_delegation_token,
    )
    from headwater.broker.handlers import (
        sasl_authenticate as sasl_authenticate,
    )
    from headwater.broker.handlers import (
        sasl_handshake as sasl_handshake,
    )
    from headwater.broker.handlers import (
        sync_group as sync_group,
    )
    from headwater.broker.handlers import (
        txn_offset_commit as txn_offset_commit,
    )
    from headwater.broker.handlers import (
        update_features as update_features,
    )
    from headwater.broker.handlers import (
        write_txn_markers as write_txn_markers,
    )

else:  # a type checker knows the handlers above, and no others

    def __getattr__(name: str) -> object:
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"there is no handler {name}") from error
