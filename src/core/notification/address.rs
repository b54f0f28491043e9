//! Which addresses a notification may be sent to.
//!
//! Whoever may make a rule names any host, and the notifier stands inside the cluster: it must not become a way to
//! what is not meant for them. The address that is looked at is the one that is then connected to, so that a name which
//! resolves differently the next time gains nothing.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What the administrator decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Addresses of private networks, the cluster's own among them.
    pub private: bool,
    /// Allowed whatever else holds, but for those of metadata services.
    pub allowed: Vec<IpNet>,
    /// Never allowed.
    pub denied: Vec<IpNet>,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A cloud's service that gives credentials to whoever asks.
    Metadata,
    /// The administrator's word.
    Denied,
    /// The machine itself.
    Loopback,
    /// The link.
    LinkLocal,
    /// No address at all.
    Unspecified,
    /// Many at once.
    Multicast,
    /// In use nowhere, or for something else.
    Reserved,
    /// A private network.
    Private,
}

impl Refusal {
    /// What the address is.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "a metadata service",
            Self::Denied => "in a denied range",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "no address of a host",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Private => "a private address",
        }
    }
}

/// Addresses at which clouds give their credentials, or what a machine is told at its start, which may hold some.
const METADATA: [IpAddr; 17] = [
    // AWS, Google, Azure and most others; AWS's for ECS tasks and EKS pods
    // (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>,
    // <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>).
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Google, of machines with IPv6 alone (<https://cloud.google.com/compute/docs/metadata/querying-metadata>).
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Azure's host (<https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16>).
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba, Oracle, Scaleway, Akamai and Tencent, and OpenStack
    // (<https://cloudinit.readthedocs.io/en/latest/reference/datasources.html>).
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 10, 10)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
];

/// Says whether an address may be connected to, or why not.
///
/// # Errors
/// The reason.
pub fn check(address: IpAddr, policy: &Policy) -> Result<(), Refusal> {
    // An address within another is judged by both.
    let inner = embedded(address).map(IpAddr::V4);
    let both = || [Some(address), inner].into_iter().flatten();
    if both().any(|address| METADATA.contains(&address)) {
        return Err(Refusal::Metadata);
    }
    let within = |ranges: &[IpNet]| both().any(|address| ranges.iter().any(|range| range.contains(&address)));
    if within(&policy.denied) {
        return Err(Refusal::Denied);
    }
    if within(&policy.allowed) {
        return Ok(());
    }
    match kind(inner.unwrap_or(address)) {
        None => Ok(()),
        Some(Refusal::Private) if policy.private => Ok(()),
        Some(refusal) => Err(refusal),
    }
}

/// What an address is, if it is not one of the public network
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>).
fn kind(address: IpAddr) -> Option<Refusal> {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Option<Refusal> {
    match address.octets() {
        [0, ..] => Some(Refusal::Unspecified),
        [127, ..] => Some(Refusal::Loopback),
        [169, 254, ..] => Some(Refusal::LinkLocal),
        [224..=239, ..] => Some(Refusal::Multicast),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
            Some(Refusal::Private)
        }
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] | [240..=255, ..] => {
            Some(Refusal::Reserved)
        }
        _ => None,
    }
}

fn kind_v6(address: Ipv6Addr) -> Option<Refusal> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Refusal::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Refusal::Loopback),
        [0xfe80..=0xfebf, ..] => Some(Refusal::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Refusal::Multicast),
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some(Refusal::Private),
        // Documentation, Teredo and others that are for no host.
        [0x2001, 0..=0x1ff | 0xdb8, ..] => Some(Refusal::Reserved),
        [0x2000..=0x3fff, ..] => None,
        _ => Some(Refusal::Reserved),
    }
}

/// The IPv4 address within an IPv6 address: mapped, compatible, translated (NAT64, by the prefix of all or one for local
/// use, <https://www.rfc-editor.org/rfc/rfc8215>) or tunnelled (6to4, Teredo).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let last = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(last(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            Some(last(high, low))
        }
        [0x2001, 0, .., high, low] => Some(last(!high, !low)),
        [0x2002, high, low, ..] => Some(last(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(address: &str, policy: &Policy) -> Result<(), Refusal> {
        check(address.parse().expect("an address"), policy)
    }

    #[test]
    fn what_each_address_is() {
        use Refusal::{LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, Unspecified};
        for (address, want) in [
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::7f00:1", Some(Loopback)),
            ("64:ff9b::7f00:1", Some(Loopback)),
            ("2002:7f00:1::", Some(Loopback)),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("::", Some(Unspecified)),
            ("169.254.0.1", Some(LinkLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("169.254.170.2", Some(Metadata)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("64:ff9b::a9fe:a9fe", Some(Metadata)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd00:ec2::23", Some(Metadata)),
            ("fd20:ce::254", Some(Metadata)),
            ("fd20:ce::255", Some(Private)),
            ("fd00:c1::a9fe:a9fe", Some(Metadata)),
            ("fd00:42::42", Some(Metadata)),
            ("fd00:a9fe:a9fe::1", Some(Metadata)),
            ("fd00:100::100:200", Some(Metadata)),
            ("fe80::a9fe:a9fe", Some(Metadata)),
            ("169.254.42.42", Some(Metadata)),
            ("169.254.0.23", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("::ffff:100.100.100.200", Some(Metadata)),
            ("::ffff:168.63.129.16", Some(Metadata)),
            ("64:ff9b:1::a9fe:a9fe", Some(Metadata)),
            ("2002:a9fe:a9fe::1", Some(Metadata)),
            ("2001:0:808:808::5601:5601", Some(Metadata)),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("ff02::1", Some(Multicast)),
            ("255.255.255.255", Some(Reserved)),
            ("240.0.0.1", Some(Reserved)),
            ("192.0.2.1", Some(Reserved)),
            ("2001:db8::1", Some(Reserved)),
            ("2001::1", Some(Reserved)),
            ("100::1", Some(Reserved)),
            ("10.0.0.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("100.64.0.1", Some(Private)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("fc00::1", Some(Private)),
            ("fd12:3456::1", Some(Private)),
            ("fec0::1", Some(Private)),
            ("172.32.0.1", None),
            ("100.128.0.1", None),
            ("8.8.8.8", None),
            ("2606:4700::1111", None),
            ("2a00:1450::1", None),
            ("::ffff:8.8.8.8", None),
        ] {
            assert_eq!(verdict(address, &Policy::default()).err(), want, "{address}");
            let private = Policy { private: true, ..Policy::default() };
            assert_eq!(verdict(address, &private).err(), want.filter(|want| *want != Private), "{address}");
        }
    }

    #[test]
    fn ranges_outweigh_what_an_address_is_and_metadata_outweighs_ranges() {
        let ranges = |list: &[&str]| list.iter().map(|r| r.parse().expect("a range")).collect::<Vec<IpNet>>();
        let policy =
            |allowed, denied| Policy { private: false, allowed: ranges(allowed), denied: ranges(denied) };
        for (address, allowed, denied, want) in [
            ("127.0.0.1", &["127.0.0.0/8"][..], &[][..], None),
            ("::ffff:127.0.0.1", &["127.0.0.0/8"], &[], None),
            ("::1", &["127.0.0.0/8"], &[], Some(Refusal::Loopback)),
            ("10.1.2.3", &["10.1.0.0/16"], &[], None),
            ("10.2.2.3", &["10.1.0.0/16"], &[], Some(Refusal::Private)),
            ("10.1.2.3", &["10.0.0.0/8"], &["10.1.0.0/16"], Some(Refusal::Denied)),
            ("8.8.8.8", &[], &["8.0.0.0/8"], Some(Refusal::Denied)),
            ("64:ff9b::808:808", &[], &["8.0.0.0/8"], Some(Refusal::Denied)),
            ("169.254.169.254", &["0.0.0.0/0"], &[], Some(Refusal::Metadata)),
            ("::ffff:a9fe:a9fe", &["::/0"], &[], Some(Refusal::Metadata)),
            ("fd20:ce::254", &["fd20::/16"], &[], Some(Refusal::Metadata)),
            ("fd00:c1::a9fe:a9fe", &["::/0"], &[], Some(Refusal::Metadata)),
            ("64:ff9b:1::a9fe:a9fe", &["::/0"], &[], Some(Refusal::Metadata)),
        ] {
            assert_eq!(
                verdict(address, &policy(allowed, denied)).err(),
                want,
                "{address} {allowed:?} {denied:?}"
            );
        }
    }
}
