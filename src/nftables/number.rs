//! Numbers of the kernel's interface, under the kernel's own names.
//!
//! Source: `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`,
//! `linux/netfilter/nf_conntrack_common.h`.

pub(in crate::nftables) use crate::netlink::number::{
    NF_ACCEPT, NF_DROP, NFNL_BATCH_GENID, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END,
    NFNL_SUBSYS_NFTABLES, NFPROTO_ARP, NFPROTO_BRIDGE, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6,
    NFPROTO_NETDEV, NFPROTO_UNSPEC, NFT_BREAK, NFT_CONTINUE, NFT_GOTO, NFT_JUMP, NFT_RETURN,
};

macro_rules! numbers {
    ($($kind:ty { $($name:ident = $value:expr),+ $(,)? })+) => {
        $($(pub(in crate::nftables) const $name: $kind = $value;)+)+
    };
}

// Message types, less the subsystem.
numbers! {
    u16 {
        NFT_MSG_NEWTABLE = 0,
        NFT_MSG_GETTABLE = 1,
        NFT_MSG_DELTABLE = 2,
        NFT_MSG_NEWCHAIN = 3,
        NFT_MSG_GETCHAIN = 4,
        NFT_MSG_DELCHAIN = 5,
        NFT_MSG_NEWRULE = 6,
        NFT_MSG_GETRULE = 7,
        NFT_MSG_DELRULE = 8,
        NFT_MSG_NEWSET = 9,
        NFT_MSG_GETSET = 10,
        NFT_MSG_DELSET = 11,
        NFT_MSG_NEWSETELEM = 12,
        NFT_MSG_GETSETELEM = 13,
        NFT_MSG_DELSETELEM = 14,
        NFT_MSG_NEWGEN = 15,
        NFT_MSG_GETGEN = 16,
        NFT_MSG_NEWOBJ = 18,
        NFT_MSG_GETOBJ = 19,
        NFT_MSG_DELOBJ = 20,
        NFT_MSG_NEWFLOWTABLE = 22,
        NFT_MSG_GETFLOWTABLE = 23,
        NFT_MSG_DELFLOWTABLE = 24,
    }
}

// Attributes.
numbers! {
    u16 {
        NFTA_LIST_ELEM = 1,
        NFTA_TABLE_NAME = 1,
        NFTA_TABLE_FLAGS = 2,
        NFTA_TABLE_USERDATA = 6,
        NFTA_TABLE_OWNER = 7,
        NFTA_GEN_PROC_PID = 2,
        NFTA_GEN_PROC_NAME = 3,
        NFTA_OBJ_TABLE = 1,
        NFTA_OBJ_NAME = 2,
        NFTA_OBJ_TYPE = 3,
        NFTA_FLOWTABLE_TABLE = 1,
        NFTA_FLOWTABLE_NAME = 2,
        NFTA_HOOK_HOOKNUM = 1,
        NFTA_HOOK_PRIORITY = 2,
        NFTA_CHAIN_TABLE = 1,
        NFTA_CHAIN_NAME = 3,
        NFTA_CHAIN_HOOK = 4,
        NFTA_CHAIN_POLICY = 5,
        NFTA_CHAIN_TYPE = 7,
        NFTA_CHAIN_USERDATA = 12,
        NFTA_RULE_TABLE = 1,
        NFTA_RULE_CHAIN = 2,
        NFTA_RULE_HANDLE = 3,
        NFTA_RULE_EXPRESSIONS = 4,
        NFTA_RULE_POSITION = 6,
        NFTA_RULE_USERDATA = 7,
        NFTA_SET_TABLE = 1,
        NFTA_SET_NAME = 2,
        NFTA_SET_FLAGS = 3,
        NFTA_SET_KEY_TYPE = 4,
        NFTA_SET_KEY_LEN = 5,
        NFTA_SET_DATA_TYPE = 6,
        NFTA_SET_DATA_LEN = 7,
        NFTA_SET_DESC = 9,
        NFTA_SET_ID = 10,
        NFTA_SET_USERDATA = 13,
        NFTA_SET_EXPR = 17,
        NFTA_SET_COUNT = 20,
        NFTA_SET_DESC_SIZE = 1,
        NFTA_SET_ELEM_KEY = 1,
        NFTA_SET_ELEM_DATA = 2,
        NFTA_SET_ELEM_FLAGS = 3,
        NFTA_SET_ELEM_USERDATA = 6,
        NFTA_SET_ELEM_EXPR = 7,
        NFTA_SET_ELEM_LIST_TABLE = 1,
        NFTA_SET_ELEM_LIST_SET = 2,
        NFTA_SET_ELEM_LIST_ELEMENTS = 3,
        NFTA_DATA_VALUE = 1,
        NFTA_DATA_VERDICT = 2,
        NFTA_VERDICT_CODE = 1,
        NFTA_VERDICT_CHAIN = 2,
        NFTA_EXPR_NAME = 1,
        NFTA_EXPR_DATA = 2,
        NFTA_IMMEDIATE_DREG = 1,
        NFTA_IMMEDIATE_DATA = 2,
        NFTA_BITWISE_SREG = 1,
        NFTA_BITWISE_DREG = 2,
        NFTA_BITWISE_LEN = 3,
        NFTA_BITWISE_MASK = 4,
        NFTA_BITWISE_XOR = 5,
        NFTA_BITWISE_OP = 6,
        NFTA_CMP_SREG = 1,
        NFTA_CMP_OP = 2,
        NFTA_CMP_DATA = 3,
        NFTA_LOOKUP_SET = 1,
        NFTA_LOOKUP_SREG = 2,
        NFTA_LOOKUP_DREG = 3,
        NFTA_LOOKUP_FLAGS = 5,
        NFTA_PAYLOAD_DREG = 1,
        NFTA_PAYLOAD_BASE = 2,
        NFTA_PAYLOAD_OFFSET = 3,
        NFTA_PAYLOAD_LEN = 4,
        NFTA_META_DREG = 1,
        NFTA_META_KEY = 2,
        NFTA_META_SREG = 3,
        NFTA_CT_DREG = 1,
        NFTA_CT_KEY = 2,
        NFTA_CT_DIRECTION = 3,
        NFTA_CT_SREG = 4,
        NFTA_FIB_DREG = 1,
        NFTA_FIB_RESULT = 2,
        NFTA_FIB_FLAGS = 3,
        NFTA_LIMIT_RATE = 1,
        NFTA_LIMIT_UNIT = 2,
        NFTA_LIMIT_BURST = 3,
        NFTA_LIMIT_TYPE = 4,
        NFTA_LIMIT_FLAGS = 5,
        NFTA_LIMIT_PAD = 6,
        NFTA_LOG_GROUP = 1,
        NFTA_LOG_PREFIX = 2,
        NFTA_LOG_LEVEL = 5,
        NFTA_COUNTER_BYTES = 1,
        NFTA_COUNTER_PACKETS = 2,
        NFTA_COUNTER_PAD = 3,
        NFTA_REJECT_TYPE = 1,
        NFTA_REJECT_ICMP_CODE = 2,
    }
}

// Values.
numbers! {
    u32 {
        NF_INET_PRE_ROUTING = 0,
        NF_INET_LOCAL_IN = 1,
        NF_INET_FORWARD = 2,
        NF_INET_LOCAL_OUT = 3,
        NFT_TABLE_F_OWNER = 2,
        NFT_REG_VERDICT = 0,
        NFT_REG_1 = 1,
        NFT_REG32_01 = 9,
        NFT_SET_INTERVAL = 4,
        NFT_SET_MAP = 8,
        NFT_SET_ELEM_INTERVAL_END = 1,
        NFT_DATA_VERDICT = 0xffff_ff00,
        NFT_META_IIFNAME = 6,
        NFT_META_OIFNAME = 7,
        NFT_META_NFTRACE = 12,
        NFT_META_NFPROTO = 15,
        NFT_META_L4PROTO = 16,
        NFT_META_OIFKIND = 27,
        NFT_CT_STATE = 0,
        NFT_CT_DIRECTION = 1,
        NFT_CT_STATUS = 2,
        NFT_CT_MARK = 3,
        NFT_CT_PROTO_DST = 12,
        NFT_CT_LABELS = 13,
        NFT_CT_SRC_IP = 19,
        NFT_CT_DST_IP = 20,
        NFT_CT_SRC_IP6 = 21,
        NFT_CT_DST_IP6 = 22,
        NFT_CMP_EQ = 0,
        NFT_CMP_NEQ = 1,
        NFT_CMP_LT = 2,
        NFT_LOOKUP_F_INV = 1,
        NFT_PAYLOAD_NETWORK_HEADER = 1,
        NFT_PAYLOAD_TRANSPORT_HEADER = 2,
        NFT_FIB_RESULT_OIF = 1,
        NFTA_FIB_F_SADDR = 1,
        NFTA_FIB_F_DADDR = 2,
        NFTA_FIB_F_MARK = 4,
        NFTA_FIB_F_IIF = 8,
        NFTA_FIB_F_PRESENT = 32,
        NFT_LIMIT_PKTS = 0,
        NFT_REJECT_TCP_RST = 1,
        NFT_REJECT_ICMPX_UNREACH = 2,
        // `1 << IPS_DST_NAT_BIT`.
        IPS_DST_NAT = 32,
        // `NF_CT_STATE_BIT(IP_CT_RELATED)`.
        STATE_RELATED = 4,
        STATE_NEW = 8,
        // `LOG_WARNING`, nft's default.
        LOG_LEVEL_WARNING = 4,
    }
    u8 {
        IP_CT_DIR_ORIGINAL = 0,
        IP_CT_DIR_REPLY = 1,
        NFT_REJECT_ICMPX_PORT_UNREACH = 1,
    }
}

// nft's own numbers for the types of keys, and libnftnl's for what it keeps in user data: the
// kernel stores both without a look at them.
numbers! {
    u32 {
        TYPE_IPADDR = 7,
        TYPE_IP6ADDR = 8,
        TYPE_INET_PROTOCOL = 12,
        TYPE_INET_SERVICE = 13,
        TYPE_MARK = 19,
        TYPE_IFNAME = 41,
        // The type of a concatenated key has those of its parts in six bits each.
        TYPE_BITS = 6,
        BYTEORDER_INVALID = 0,
        BYTEORDER_HOST_ENDIAN = 1,
        BYTEORDER_BIG_ENDIAN = 2,
    }
    u8 {
        NFTNL_UDATA_COMMENT = 0,
        NFTNL_UDATA_SET_KEYBYTEORDER = 0,
        NFTNL_UDATA_SET_DATABYTEORDER = 1,
        NFTNL_UDATA_SET_COMMENT = 7,
        NFTNL_UDATA_SET_ELEM_COMMENT = 0,
        // dfw's own types, far from those of libnftnl; nft ignores unknown types.
        UDATA_FINGERPRINT = 0xde,
        UDATA_SKETCH = 0xdf,
    }
}

// Instructions that other programs use in NAT chains, beside those that dfw writes
// (`linux/netfilter/nf_tables.h`, `linux/netfilter/nf_tables_compat.h`).
numbers! {
    u16 {
        NFTA_NAT_TYPE = 1,
        NFTA_NAT_FAMILY = 2,
        NFTA_NAT_REG_ADDR_MIN = 3,
        NFTA_NAT_REG_ADDR_MAX = 4,
        NFTA_NAT_REG_PROTO_MIN = 5,
        NFTA_NAT_REG_PROTO_MAX = 6,
        NFTA_NAT_FLAGS = 7,
        NFTA_REDIR_REG_PROTO_MIN = 1,
        NFTA_REDIR_REG_PROTO_MAX = 2,
        NFTA_MATCH_NAME = 1,
        NFTA_MATCH_REV = 2,
        NFTA_MATCH_INFO = 3,
        NFTA_RANGE_SREG = 1,
        NFTA_RANGE_OP = 2,
        NFTA_RANGE_FROM_DATA = 3,
        NFTA_RANGE_TO_DATA = 4,
        NFTA_SET_DESC_CONCAT = 2,
        NFTA_SET_FIELD_LEN = 1,
        NFTA_SET_ELEM_KEY_END = 10,
    }
    u32 {
        NFT_TABLE_F_DORMANT = 1,
        NFT_NAT_DNAT = 1,
        NF_NAT_RANGE_NETMAP = 1 << 6,
        NFT_META_PROTOCOL = 1,
        NFT_META_IIF = 4,
        NFT_FIB_RESULT_ADDRTYPE = 3,
        NFT_CMP_LTE = 3,
        NFT_CMP_GT = 4,
        NFT_CMP_GTE = 5,
        NFT_REG_4 = 4,
        NFT_REG32_00 = 8,
        NFT_REG32_15 = 23,
        NFT_SET_TIMEOUT = 0x10,
        NFT_SET_EVAL = 0x20,
        NFT_SET_ELEM_CATCHALL = 2,
    }
}
