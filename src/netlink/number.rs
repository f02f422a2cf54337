//! Numbers of the kernel's interface, under the kernel's own names.
//!
//! Source: `linux/netfilter/nfnetlink.h`, `linux/netfilter.h`; each part names its own.

macro_rules! numbers {
    ($($kind:ty { $($name:ident = $value:expr),+ $(,)? })+) => {
        $($(pub(crate) const $name: $kind = $value;)+)+
    };
}

// Transactions and families of netfilter.
numbers! {
    u16 {
        NFNL_MSG_BATCH_BEGIN = 0x10,
        NFNL_MSG_BATCH_END = 0x11,
        NFNL_SUBSYS_NFTABLES = 10,
        NFNL_BATCH_GENID = 1,
    }
    u8 {
        NFPROTO_UNSPEC = 0,
        NFPROTO_INET = 1,
        NFPROTO_IPV4 = 2,
        NFPROTO_ARP = 3,
        NFPROTO_NETDEV = 5,
        NFPROTO_BRIDGE = 7,
        NFPROTO_IPV6 = 10,
    }
}

// Verdicts (`linux/netfilter.h`, `linux/netfilter/nf_tables.h`).
numbers! {
    u32 {
        NF_DROP = 0,
        NF_ACCEPT = 1,
        NFT_JUMP = (-3i32).cast_unsigned(),
        NFT_GOTO = (-4i32).cast_unsigned(),
        NFT_RETURN = (-5i32).cast_unsigned(),
        NF_STOLEN = 2,
        NF_QUEUE = 3,
        NFT_CONTINUE = (-1i32).cast_unsigned(),
        NFT_BREAK = (-2i32).cast_unsigned(),
    }
}

// Traces of packets (`enum nft_trace_attributes`, `enum nft_trace_types`), and the multicast group
// that they are sent to.
numbers! {
    u16 {
        NFT_MSG_TRACE = 17,
        NFTA_TRACE_TABLE = 1,
        NFTA_TRACE_CHAIN = 2,
        NFTA_TRACE_RULE_HANDLE = 3,
        NFTA_TRACE_TYPE = 4,
        NFTA_TRACE_VERDICT = 5,
        NFTA_TRACE_ID = 6,
        NFTA_TRACE_NETWORK_HEADER = 8,
        NFTA_TRACE_TRANSPORT_HEADER = 9,
        NFTA_TRACE_IIF = 10,
        NFTA_TRACE_OIF = 12,
        NFTA_TRACE_POLICY = 16,
    }
    u32 {
        NFT_TRACETYPE_POLICY = 1,
        NFT_TRACETYPE_RETURN = 2,
        NFT_TRACETYPE_RULE = 3,
        NFNLGRP_NFTRACE = 9,
    }
}

// Logged packets (`linux/netfilter/nfnetlink_log.h`).
numbers! {
    u16 {
        NFNL_SUBSYS_ULOG = 4,
        NFULNL_MSG_PACKET = 0,
        NFULNL_MSG_CONFIG = 1,
        NFULA_CFG_CMD = 1,
        NFULA_CFG_MODE = 2,
        NFULA_CFG_QTHRESH = 5,
        NFULA_CFG_FLAGS = 6,
        NFULA_TIMESTAMP = 3,
        NFULA_IFINDEX_INDEV = 4,
        NFULA_PAYLOAD = 9,
        NFULA_PREFIX = 10,
        NFULA_SEQ = 12,
        NFULA_CT = 18,
        NFULNL_CFG_F_SEQ = 1,
        NFULNL_CFG_F_CONNTRACK = 4,
    }
    u8 {
        NFULNL_CFG_CMD_BIND = 1,
        NFULNL_COPY_PACKET = 2,
    }
}

// Tracked connections (`linux/netfilter/nfnetlink_conntrack.h`, `linux/in.h`).
numbers! {
    u16 {
        NFNL_SUBSYS_CTNETLINK = 1,
        IPCTNL_MSG_CT_GET = 1,
        CTA_TUPLE_ORIG = 1,
        CTA_TUPLE_IP = 1,
        CTA_TUPLE_PROTO = 2,
        CTA_IP_V4_SRC = 1,
        CTA_IP_V4_DST = 2,
        CTA_IP_V6_SRC = 3,
        CTA_IP_V6_DST = 4,
        CTA_PROTO_NUM = 1,
        CTA_PROTO_SRC_PORT = 2,
        CTA_PROTO_DST_PORT = 3,
    }
    u8 {
        IPPROTO_TCP = 6,
    }
}

// Links and routes (`linux/rtnetlink.h`, `linux/if_link.h`, `linux/socket.h`).
numbers! {
    u16 {
        RTM_NEWLINK = 16,
        RTM_GETLINK = 18,
        RTM_NEWADDR = 20,
        RTM_GETADDR = 22,
        RTM_NEWROUTE = 24,
        RTM_GETROUTE = 26,
        RTA_DST = 1,
        RTA_OIF = 4,
        RTA_GATEWAY = 5,
        RTA_VIA = 18,
        IFA_ADDRESS = 1,
        IFA_LOCAL = 2,
        IFLA_IFNAME = 3,
        IFLA_MASTER = 10,
        IFLA_LINKINFO = 18,
        IFLA_XDP = 43,
        IFLA_XDP_ATTACHED = 2,
        IFLA_INFO_KIND = 1,
    }
    u8 {
        RTN_LOCAL = 2,
        AF_INET = 2,
        AF_INET6 = 10,
    }
}

// Sockets (`linux/sock_diag.h`, `linux/inet_diag.h`).
numbers! {
    u16 {
        SOCK_DIAG_BY_FAMILY = 20,
        INET_DIAG_SKV6ONLY = 11,
    }
}
