//! The real binary between hosts, with the peers that the distribution has.

// Nothing of a test program can be reached from outside.
#![allow(unreachable_pub)]

use std::process::ExitCode;

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../scenarios/mod.rs"]
mod scenarios;

mod demo;
mod device;
mod dnat;
mod dns;
mod endpoint;
mod foreign;
mod forwarding;
mod guards;
mod heal;
mod hostile;
mod hub;
mod lifecycle;
mod liveness;
mod mtu;
mod nested;
mod netstate;
mod offload;
mod outage;
mod pair;
mod path;
mod ports;
mod reload;
mod soak;
mod threads;
mod tunnel;
mod uapi;
mod unreachable;
mod upstreams;
mod world;

use harness::Case;

const CASES: &[Case] = &[
    case!(tunnel::a_hub_that_was_away_for_95_s_is_back_without_traffic).waiting(180),
    case!(tunnel::an_idle_peer_without_keepalive_stays_ready).waiting(100),
    case!(endpoint::the_next_endpoint_of_a_list_is_taken).waiting(120),
    case!(endpoint::a_name_is_followed_to_its_new_address).waiting(100),
    case!(liveness::a_hub_that_was_away_is_back_with_the_next_call).waiting(100),
    case!(liveness::an_idle_node_notices_in_two_periods_that_the_hub_was_restarted).waiting(100),
    case!(liveness::a_flow_goes_on_soon_after_the_hub_was_restarted).waiting(100),
    case!(liveness::a_nat_that_forgets_or_changes_its_mapping_is_followed).waiting(100),
    case!(liveness::a_flow_that_is_held_where_the_hub_was_gets_another_port).waiting(150),
    case!(liveness::an_uplink_that_goes_and_comes_back_interrupts_for_a_period).waiting(100),
    case!(liveness::a_default_route_that_moves_to_another_uplink_is_followed).waiting(100),
    case!(liveness::a_node_that_was_stopped_is_back_with_its_next_packet).waiting(100),
    case!(liveness::a_clock_that_is_set_back_and_forth_stops_nothing).waiting(150),
    case!(liveness::a_clock_that_was_behind_at_start_and_is_set_right_is_enough).waiting(100),
    case!(liveness::a_path_that_loses_repeats_and_reorders_is_no_dead_one).waiting(150),
    case!(liveness::two_ends_that_call_each_other_at_once_agree).waiting(100),
    case!(path::a_silent_router_is_noticed_over_ipv4).waiting(100),
    case!(path::a_silent_router_is_noticed_over_ipv6).waiting(100),
    case!(world::hosts_reach_each_other_and_only_by_their_routes),
    case!(world::wireguard_devices_of_the_distribution_reach_each_other),
    case!(world::dns_servers_answer),
    case!(world::state_shows_what_changed),
    case!(world::state_less_what_is_ours_is_all_that_is_foreign),
    case!(tunnel::calls_wireguard_go_over_ipv4),
    case!(tunnel::calls_wireguard_go_over_ipv6),
    case!(tunnel::is_called_by_wireguard_go_over_ipv4),
    case!(tunnel::is_called_by_wireguard_go_over_ipv6),
    case!(tunnel::a_peer_with_another_preshared_key_is_refused),
    case!(tunnel::two_seedwires_carry_data),
    case!(tunnel::datagrams_in_a_row_arrive_as_they_were),
    case!(tunnel::a_connection_outlives_a_restart_of_either_end),
    case!(tunnel::the_hub_follows_a_node_that_moves),
    case!(tunnel::a_packet_from_a_wrong_inner_address_is_dropped),
    case!(device::every_byte_is_counted_between_two),
    case!(device::every_byte_is_counted_with_wireguard_go),
    case!(device::a_packet_is_padded_up_to_the_mtu_of_the_link),
    case!(device::many_connections_at_once_carry_data),
    case!(device::a_private_key_changes_under_traffic),
    case!(device::a_device_is_no_peer_of_itself),
    case!(device::keys_are_clamped_and_cleared),
    case!(device::prefixes_overlap_and_move),
    case!(device::a_prefix_is_taken_with_a_minus),
    case!(device::as_many_prefixes_as_a_list_holds_are_kept),
    case!(device::nothing_is_sent_to_a_key_of_low_order),
    case!(device::everything_goes_into_the_tunnel_but_what_is_marked),
    case!(device::an_answer_comes_from_the_address_that_was_called),
    case!(nested::a_tunnel_runs_in_another_one),
    case!(nested::a_tunnel_that_leads_into_itself_sends_little_and_recovers),
    case!(unreachable::a_destination_without_a_peer_is_told),
    case!(unreachable::a_peer_without_an_endpoint_is_told_to_forwarded_hosts_too),
    case!(uapi::device_reaches_wireguard_go),
    case!(uapi::device_reaches_itself),
    case!(uapi::device_goes_to_the_background_once_it_can_be_configured),
    case!(uapi::device_ends_with_its_interface),
    case!(uapi::set_and_show_agree),
    case!(uapi::showconf_setconf_and_syncconf_agree),
    case!(uapi::what_wg_set_changed_in_a_daemon_lasts_until_the_next_reload),
    case!(dns::the_zone_is_answered_by_the_seed_and_the_rest_by_the_node),
    case!(dns::answers_are_kept_with_their_time),
    case!(dns::an_answer_too_long_for_udp_comes_over_tcp),
    case!(dns::another_upstream_answers_for_one_that_refuses_or_is_dead),
    case!(dns::the_zone_never_falls_back_to_the_general_upstreams),
    case!(dns::a_zone_behind_a_peer_that_is_down_fails_fast),
    case!(dns::a_question_wakes_an_idle_tunnel),
    case!(dns::names_outside_the_zones_are_refused_without_upstreams),
    case!(dns::a_listen_address_is_lent_to_the_loopback_interface),
    case!(dns::upstreams_are_asked_over_ipv6_too),
    case!(dns::the_systems_servers_are_upstreams_less_our_own),
    case!(dns::names_alone_need_no_privileges),
    case!(outage::a_silent_seed_leaves_what_is_known_and_makes_no_storm),
    case!(upstreams::a_zone_is_asked_over_tls_on_one_connection),
    case!(upstreams::a_server_with_another_name_or_authority_is_not_believed),
    case!(upstreams::a_tcp_upstream_is_asked_on_one_connection_that_is_renewed),
    case!(upstreams::an_upstream_that_takes_connections_and_says_nothing_is_left),
    case!(upstreams::a_link_local_upstream_is_asked_on_its_interface),
    case!(outage::a_refusal_takes_nothing_from_what_is_known),
    case!(outage::an_nxdomain_stands_unless_it_is_not_to_be_believed),
    case!(outage::popular_negative_answers_are_renewed_and_end),
    case!(outage::names_made_by_search_domains_end_here),
    case!(dnat::a_local_program_without_a_default_route_reaches_the_service),
    case!(dnat::a_local_program_with_a_default_route_reaches_the_service),
    case!(dnat::forwarded_programs_reach_the_service),
    case!(dnat::another_programs_dnat_stands_beside_ours),
    case!(forwarding::pods_take_the_address_of_the_tunnel_and_no_other),
    case!(forwarding::a_hub_masquerades_where_the_seed_has_no_return_route),
    case!(forwarding::a_hub_leaves_addresses_where_the_seed_has_a_return_route),
    case!(forwarding::routes_of_a_list_are_written_alone),
    case!(forwarding::forwarding_stays_on_for_others),
    case!(hostile::hostile_datagrams_stop_nobody).heavy(),
    case!(hostile::a_flood_from_one_address_stops_nobody_behind_it).heavy(),
    case!(hub::many_nodes_call_one_hub),
    case!(hub::one_key_in_two_places_is_told),
    case!(foreign::foreign_state_outlives_start_reload_stop_kill_and_down),
    case!(foreign::two_daemons_on_one_host_leave_each_other_alone),
    case!(foreign::a_route_of_somebody_else_is_a_conflict),
    case!(foreign::an_interface_of_somebody_else_is_a_conflict),
    case!(foreign::a_tunnel_for_everything_uses_a_table_of_its_own),
    case!(guards::nothing_leaves_by_the_default_route_while_the_tunnel_is_gone),
    case!(guards::a_tunnel_for_everything_leaves_nothing_to_the_default_route),
    case!(guards::a_guard_comes_back_and_goes_with_its_prefix),
    case!(heal::what_others_delete_or_change_comes_back),
    case!(heal::a_nft_rule_that_was_edited_in_place_is_noticed),
    case!(heal::a_reload_is_no_repair),
    case!(heal::rules_and_a_private_table_come_back_and_follow_the_uplink),
    case!(heal::a_fight_over_one_object_ends_in_a_report),
    case!(heal::a_route_that_somebody_put_in_its_place_is_told_and_left),
    case!(lifecycle::a_second_run_names_the_holder),
    case!(lifecycle::a_second_run_in_another_pid_namespace_says_so),
    case!(lifecycle::a_bad_configuration_touches_nothing),
    case!(lifecycle::down_needs_no_more_than_the_interface),
    case!(lifecycle::a_peer_that_goes_down_is_the_last_error),
    case!(lifecycle::an_address_in_use_undoes_what_was_done),
    case!(lifecycle::sigterm_ends_it_clean_with_clients_connected),
    case!(lifecycle::sigint_ends_it_clean_with_clients_connected),
    case!(lifecycle::an_unreachable_seed_never_ends_it),
    case!(lifecycle::startup_waits_for_readiness),
    case!(lifecycle::a_signal_during_the_start_leaves_nothing),
    case!(lifecycle::a_sidecar_runs_where_parameters_are_read_only),
    case!(lifecycle::a_plan_names_the_steps_and_takes_none),
    case!(lifecycle::forwarding_that_cannot_be_switched_on_is_named),
    case!(lifecycle::forwarding_that_is_on_already_needs_no_switch),
    case!(lifecycle::status_and_metrics_tell_the_state),
    case!(endpoint::a_name_that_cannot_be_resolved_yet_is_tried_again),
    case!(reload::a_reload_keeps_what_stays),
    case!(reload::ports_that_go_with_dns_leave_status),
    case!(reload::a_bad_file_keeps_the_old_state),
    case!(reload::sighup_reloads),
    case!(reload::a_swap_of_the_key_then_of_the_configuration),
    case!(reload::a_swap_of_the_configuration_then_of_the_key),
    case!(reload::a_key_that_is_missing_for_a_while_keeps_the_old_state),
    case!(ports::a_port_leads_to_a_name_in_the_seed),
    case!(mtu::the_mtu_comes_from_the_path),
    case!(mtu::packets_are_padded_up_to_the_mtu_of_now),
    case!(mtu::routers_may_cut_what_is_sent_alone_and_no_run),
    case!(path::a_router_that_tells_is_followed_over_ipv4),
    case!(path::a_router_that_tells_is_followed_over_ipv6),
    case!(mtu::data_passes_where_the_path_is_narrower_than_the_tunnel),
    case!(mtu::the_mss_is_clamped_on_both_ends),
    case!(offload::off_on_both_ends),
    case!(offload::off_on_one_end),
    case!(offload::off_on_the_other_end),
    case!(offload::a_kernel_that_refuses_them_is_one_without),
    case!(netstate::a_step_that_the_kernel_refuses_takes_all_back),
    case!(netstate::what_was_applied_is_seen_and_cleared_by_another_process),
    case!(netstate::a_listing_that_changes_while_it_is_read_is_whole_or_an_error),
    case!(netstate::replies_to_marked_packets_pass_a_strict_reverse_path_filter),
    case!(demo::lines_arrive_and_nothing_is_left),
    case!(demo::an_interrupt_at_any_moment_leaves_nothing),
    case!(demo::an_interrupt_leaves_nothing),
    case!(soak::a_hub_that_was_away_for_100_s_is_back_with_the_next_call).soak(300),
    case!(soak::a_hub_that_was_away_for_10_minutes_is_back_with_the_next_call).soak(900),
    case!(soak::a_node_that_was_stopped_for_5_minutes_is_back_with_its_next_packet).soak(600),
    case!(soak::an_idle_peer_costs_the_hub_what_is_documented).soak(900),
    case!(soak::a_session_under_full_load_is_renewed_without_a_gap).soak(600),
    // It needs a processor for itself.
    case!(threads::order_and_connections_outlive_the_change_to_two_threads_and_back).soak(300),
];

fn main() -> ExitCode {
    harness::main(env!("CARGO_BIN_EXE_seedwire"), CASES)
}
