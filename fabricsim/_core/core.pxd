# Mirrors csrc/include/fabricsim.h, and nothing else.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "fabricsim.h" nogil:
    ctypedef bint bool "bool"
    enum:
        FAB_OK
        FAB_E_MEMORY
        FAB_E_CONFIG
        FAB_E_TOPOLOGY
        FAB_E_TRACE
        FAB_E_DEADLOCK
        FAB_E_LIMIT
        FAB_E_TRANSPORT
        FAB_E_INTERNAL
        FAB_E_CUT_OFF
        FAB_OP_KINDS
        FAB_PROBLEMS_KEPT

    const char *fab_error_name(int code)

    ctypedef struct fab_problems_t:
        int32_t count
        char text[16384]

    void fab_problems_clear(fab_problems_t *self)

    ctypedef struct fab_param_t:
        const char *name
        const char *unit
        int64_t preset, least, most
        const char *meaning
        const char *source

    ctypedef struct fab_impl_t:
        const char *room
        const char *impl
        const char *summary
        const fab_param_t *params
        uint32_t kinds

    const fab_impl_t *const fab_implementations[]

    ctypedef struct fab_setting_t:
        const char *room
        const char *impl
        int32_t count
        const char *const *names
        const int64_t *values
        int32_t network

    ctypedef struct fab_layout_row_t:
        int32_t layout, mirror
        int64_t begin_bytes, end_bytes, stripe_bytes
        int32_t stripe_count, first_target, on_meta

    ctypedef struct fab_store_spec_t:
        int32_t data_count, meta_count, target_count
        const int32_t *server_host
        const int32_t *server_partner
        const int32_t *target_server
        const fab_layout_row_t *layouts
        int32_t layout_row_count
        const int64_t *slow
        int32_t slow_count
        const int64_t *failures
        int32_t failure_count

    ctypedef struct fab_topology_t:
        int32_t host_count, switch_count, cable_count
        const int32_t *cable_a
        const int32_t *cable_b
        const int64_t *cable_rate_mbps
        const int64_t *cable_delay_ps
        const int64_t *node_latency_ps
        const int8_t *cable_network
        int32_t reducer_count
        int32_t server_count
        const fab_store_spec_t *stores
        int32_t store_count

    ctypedef struct fab_model_t:
        pass

    int fab_model_new(const fab_topology_t *topology, const fab_setting_t *settings, int32_t setting_count,
                      fab_problems_t *problems, fab_model_t **model_out)
    void fab_model_free(fab_model_t *self)

    ctypedef struct fab_model_info_t:
        int64_t lookahead_ps
        int32_t node_count, host_count, link_count, colour_count, arithmetic_switch_count
        int64_t memory_bytes

    void fab_model_info(const fab_model_t *self, fab_model_info_t *info_out)
    int32_t fab_model_path(const fab_model_t *self, int32_t src, int32_t dst, int32_t entropy, int32_t *links_out,
                           int32_t limit)

    ctypedef struct fab_program_t:
        pass

    cdef struct ArrowArrayStream:
        pass

    ctypedef struct fab_collectives_t:
        const char *algorithms[21]
        const fab_setting_t *variants
        int32_t variant_count

    ctypedef struct fab_file_table_t:
        int32_t count, directory_count
        const int8_t *store
        const int32_t *directory
        const int32_t *layout
        const int64_t *bytes
        const int32_t *directory_stripes
        const int32_t *clients
        int32_t client_count
        int32_t ranks_per_client

    int fab_program_from_arrow(const fab_model_t *model, ArrowArrayStream *stream, const int32_t *rank_host,
                               int32_t rank_count, const fab_collectives_t *collectives, const fab_file_table_t *files,
                               fab_problems_t *problems, fab_program_t **program_out)
    void fab_program_free(fab_program_t *self)

    ctypedef struct fab_program_info_t:
        int64_t op_count, instance_count, connection_count, send_count, memory_bytes
        int32_t rank_count

    void fab_program_info(const fab_program_t *self, fab_program_info_t *info_out)

    ctypedef struct fab_run_t:
        pass

    ctypedef struct fab_change_t:
        int64_t when_ps
        int32_t link, what
        int64_t value

    ctypedef struct fab_circuit_t:
        int64_t cable, first_ps, up_ps, period_ps

    ctypedef struct fab_changes_t:
        const fab_change_t *changes
        int64_t change_count
        const fab_circuit_t *circuits
        int64_t circuit_count, heal_ps

    ctypedef struct fab_run_options_t:
        uint64_t seed
        int32_t threads
        bool record_packets
        bool record_rpcs
        bool plain
        const fab_changes_t *changes

    int fab_run_new(const fab_model_t *model, const fab_program_t *program, const fab_run_options_t *options,
                    fab_problems_t *problems, fab_run_t **run_out)
    void fab_run_free(fab_run_t *self)
    int fab_run_step(fab_run_t *self, int64_t until_ps, fab_problems_t *problems, bool *finished_out)

    ctypedef struct fab_counters_t:
        int64_t now_ps, end_ps
        int64_t packets, packet_hops, drops, ecn_marks, pfc_pauses, pfc_resumes
        int64_t acks, naks, cnps, retransmits, timeouts, duplicates, messages, windows, visits
        int64_t done_instances, memory_bytes, ring_bytes_peak
        int64_t lost, changes, heals

    void fab_run_counters(const fab_run_t *self, fab_counters_t *counters_out)
    void fab_run_progress(const fab_run_t *self, int64_t *now_ps_out, int64_t *done_out)
    uint64_t fab_run_digest(const fab_run_t *self)
    void fab_run_ops(const fab_run_t *self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out,
                     int64_t *end_ps_out)
    void fab_run_sends(const fab_run_t *self, int64_t *op_out, int32_t *src_out, int32_t *dst_out,
                       int64_t *bytes_out, int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out)

    ctypedef struct fab_link_stats_t:
        int64_t packets, bytes, ecn_marks, drops, pauses, paused_ps, max_queue_bytes, busy_ps, lost, down_ps

    void fab_run_links(fab_run_t *self, fab_link_stats_t *stats_out)

    ctypedef struct fab_target_row_t:
        pass
    ctypedef struct fab_server_row_t:
        pass
    ctypedef struct fab_client_row_t:
        pass
    ctypedef struct fab_rpc_row_t:
        pass

    int64_t fab_run_targets(const fab_run_t *self, fab_target_row_t *rows_out, int64_t limit)
    int64_t fab_run_servers(const fab_run_t *self, fab_server_row_t *rows_out, int64_t limit)
    int64_t fab_run_clients(const fab_run_t *self, fab_client_row_t *rows_out, int64_t limit)
    int64_t fab_run_rpcs(const fab_run_t *self, fab_rpc_row_t *rows_out, int64_t limit)

    ctypedef struct fab_io_request_t:
        int32_t rank, kind, flags, file, new_file
        int64_t offset, bytes

    int fab_run_add_directory(fab_run_t *self, int32_t stripes, fab_problems_t *problems, int32_t *directory_out)
    int fab_run_add_file(fab_run_t *self, int32_t store, int32_t directory, int32_t layout, fab_problems_t *problems,
                         int32_t *file_out)
    int fab_run_io(fab_run_t *self, const fab_io_request_t *request, fab_problems_t *problems, int64_t *token_out)
    int fab_run_wait(fab_run_t *self, int64_t token, fab_problems_t *problems, int64_t *start_ps_out,
                     int64_t *end_ps_out)
    int fab_run_wait_any(fab_run_t *self, const int64_t *tokens, int32_t count, int64_t until_ps,
                         fab_problems_t *problems, int32_t *which_out, int64_t *start_ps_out, int64_t *end_ps_out)
    int64_t fab_run_frontier_ps(const fab_run_t *self)

    ctypedef struct fab_blocked_t:
        int64_t op
        int32_t rank, waits_for, state

    int64_t fab_run_blocked(const fab_run_t *self, fab_blocked_t *blocked_out, int64_t limit)

    ctypedef struct fab_arrival_t:
        int64_t when_ps
        int32_t link, dst, connection
        uint32_t psn
        uint16_t bytes
        uint8_t kind, flags

    int fab_run_check(const fab_run_t *self, fab_problems_t *problems)
    int64_t fab_run_arrivals(const fab_run_t *self, fab_arrival_t *arrivals_out, int64_t limit)

    ctypedef struct fab_flow_t:
        pass

    int64_t fab_program_activities(const fab_program_t *self, int64_t *op_out, int32_t *group_out, int64_t limit)

    ctypedef struct fab_flow_options_t:
        uint64_t seed
        const int64_t *latency_ps
        const int64_t *work_ps

    int fab_flow_new(const fab_model_t *model, const fab_program_t *program, const fab_flow_options_t *options,
                     fab_problems_t *problems, fab_flow_t **flow_out)
    void fab_flow_free(fab_flow_t *self)
    int fab_flow_step(fab_flow_t *self, int64_t until_ps, fab_problems_t *problems, bool *finished_out)
    void fab_flow_counters(const fab_flow_t *self, fab_counters_t *counters_out)
    void fab_flow_progress(const fab_flow_t *self, int64_t *now_ps_out, int64_t *done_out)
    uint64_t fab_flow_digest(const fab_flow_t *self)
    void fab_flow_ops(const fab_flow_t *self, int64_t *op_out, int32_t *rank_out, int64_t *start_ps_out,
                      int64_t *end_ps_out)
    void fab_flow_sends(const fab_flow_t *self, int64_t *op_out, int32_t *src_out, int32_t *dst_out,
                        int64_t *bytes_out, int64_t *start_ps_out, int64_t *end_ps_out, int64_t *delivered_ps_out)
    void fab_flow_links(const fab_flow_t *self, fab_link_stats_t *stats_out)
    int64_t fab_flow_blocked(const fab_flow_t *self, fab_blocked_t *blocked_out, int64_t limit)
    int fab_flow_costs(fab_flow_t *self, fab_problems_t *problems, int64_t *latency_ps_out, int64_t *work_ps_out)
    int fab_flow_loads(fab_flow_t *self, int64_t activity, fab_problems_t *problems, int64_t *bytes_out,
                       int64_t *packets_out)
