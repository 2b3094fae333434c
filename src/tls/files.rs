//! The three files: what they have to hold, and what a person is told where they do not.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    sync::Arc,
};

use rustls::{
    CertificateError, CipherSuite, ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::{CA, CERT, KEY, PEER_NAME, Role, swarm::Configs};
use crate::{args::Args, limits, say};

/// Where the certificate, its key and the authority's certificate are.
pub(super) struct Files {
    pub(super) cert: String,
    pub(super) key: String,
    pub(super) ca: String,
}

/// What tells that a file has been written or replaced: time, length and inode; none where it is not there.
pub(super) type Stamps = [Option<(i64, i64, u64, u64)>; 3];

const HOW: &str = "`scripts/certificates.sh HOST` makes all three files";

impl Files {
    /// All three, or none.
    ///
    /// # Errors
    /// A sentence, where some are missing.
    pub(super) fn of(args: &Args) -> Result<Option<Self>, String> {
        match (args.value(CERT.name)?, args.value(KEY.name)?, args.value(CA.name)?) {
            (Some(cert), Some(key), Some(ca)) => Ok(Some(Self { cert, key, ca })),
            (None, None, None) => Ok(None),
            (cert, key, ca) => {
                let given = [(CERT, cert), (KEY, key), (CA, ca)];
                let missing = given.iter().filter(|(_, value)| value.is_none()).map(|(flag, _)| flag.name);
                let missing = missing.collect::<Vec<_>>().join(" and ");
                Err(format!("TLS takes --tls-cert, --tls-key and --tls-ca, and here is no {missing}: {HOW}"))
            }
        }
    }

    pub(super) fn stamps(&self) -> Stamps {
        [&self.cert, &self.key, &self.ca].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.mtime(), file.mtime_nsec(), file.len(), file.ino()))
        })
    }

    /// Warns of a key that is none of everybody's business.
    pub(super) fn warn(&self) {
        if fs::metadata(&self.key).is_ok_and(|file| file.is_file() && file.mode() & 0o004 != 0) {
            let key = &self.key;
            say(format_args!("--tls-key {key}: everybody on this machine can read it; `chmod 600 {key}` ends that"));
        }
    }

    /// Reads and checks them as those whom this process meets will.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(super) fn read(&self, role: Role) -> Result<Configs, String> {
        #[cfg(not(feature = "tls"))]
        check_processor()?;
        let Self { cert, key, ca } = self;
        let provider = Arc::new(provider());
        let of_flag = |flag: &str, path: &str, error: String| format!("{flag} {path}: {error}");

        let mut roots = RootCertStore::empty();
        let authorities = certificates(ca).map_err(|error| of_flag(CA.name, ca, error))?;
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|error| of_flag(CA.name, ca, format!("holds no authority ({error}); {HOW}")))?;
        }
        let roots = Arc::new(roots);

        let chain = certificates(cert).map_err(|error| of_flag(CERT.name, cert, error))?;
        let bytes = read(key).map_err(|error| of_flag(KEY.name, key, error))?;
        let private = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|_| of_flag(KEY.name, key, format!("holds no private key in PEM; {HOW}")))?;
        if authorities.contains(&chain[0]) {
            return Err(of_flag(CERT.name, cert, format!("is the authority's own and no host's; {HOW}")));
        }
        check(&chain, &roots, role, &provider).map_err(|error| match error {
            Unfit::Authority => format!("{} {cert} is not from the authority of {} {ca}; {HOW}", CERT.name, CA.name),
            Unfit::Other(error) => of_flag(CERT.name, cert, error),
        })?;
        let certified = CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!(
                    "{} {key} is not the key of {} {cert}: give the two that were made together",
                    KEY.name, CERT.name
                )
            }
            error => of_flag(KEY.name, key, error.to_string()),
        })?;
        configs(certified, roots, role, provider).map_err(|error| of_flag(CERT.name, cert, error.to_string()))
    }
}

fn configs(
    certified: CertifiedKey,
    roots: Arc<RootCertStore>,
    role: Role,
    provider: Arc<CryptoProvider>,
) -> Result<Configs, rustls::Error> {
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server.alpn_protocols = match role {
        Role::Tracker => vec![b"h2".to_vec()],
        Role::Peer => vec![b"http/1.1".to_vec()],
    };
    // Connections are kept, so hardly anybody comes again; and what is not kept takes no memory.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    let mut to_trackers = client.clone();
    to_trackers.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Configs { server: Arc::new(server), to_peers: Arc::new(client), to_trackers: Arc::new(to_trackers) })
}

/// Why a certificate is of no use.
enum Unfit {
    /// It is from another authority.
    Authority,
    /// As the rest of a sentence.
    Other(String),
}

/// Whether others of the swarm will take this certificate; the name of a tracker is its callers' affair.
fn check(chain: &[CertificateDer], roots: &RootCertStore, role: Role, provider: &CryptoProvider) -> Result<(), Unfit> {
    let other = |error: rustls::Error| Unfit::Other(format!("is not good: {error}"));
    let [own, between @ ..] = chain else { return Err(Unfit::Other(format!("holds no certificate; {HOW}"))) };
    let own = ParsedCertificate::try_from(own).map_err(other)?;
    let algorithms = provider.signature_verification_algorithms.all;
    let verified = verify_server_cert_signed_by_trust_anchor(&own, roots, between, UnixTime::now(), algorithms);
    verified.map_err(|error| match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Unfit::Authority
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Unfit::Other(
                "its time is over, or that of its authority; `scripts/certificates.sh HOST` makes a new one".into(),
            )
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Unfit::Other("its time is still to come: set this machine's clock right".into()),
        error => other(error),
    })?;
    let name = ServerName::try_from(PEER_NAME).map_err(|error| Unfit::Other(error.to_string()))?;
    if role == Role::Peer && verify_server_name(&own, &name).is_err() {
        return Err(Unfit::Other(format!(
            "is no peer's: peers know each other by the name {PEER_NAME} in their certificates; {HOW}"
        )));
    }
    Ok(())
}

/// What computes, with the fastest on processors with AES first, which all servers' have.
fn provider() -> CryptoProvider {
    #[cfg(feature = "tls")]
    let mut provider = rustls::crypto::ring::default_provider();
    #[cfg(not(feature = "tls"))]
    let mut provider = rustls_graviola::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Whether graviola can compute here: it has no other code than for these (its README), and would end the process.
///
/// # Errors
/// A sentence that says what is missing.
#[cfg(not(feature = "tls"))]
fn check_processor() -> Result<(), String> {
    macro_rules! features {
        ($detect:ident $($name:tt)*) => { [$(($name, std::arch::$detect!($name))),*] };
    }
    #[cfg(target_arch = "x86_64")]
    let features = features!(is_x86_feature_detected "aes" "ssse3" "avx" "avx2" "adx" "bmi1" "bmi2" "pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let features = features!(is_aarch64_feature_detected "aes" "sha2" "pmull" "neon");
    let missing: Vec<_> = features.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this build has no TLS for a processor without {}: take one with the feature `tls` in place of `pure-tls`, or \
         leave {}, {} and {} out",
        missing.join(", "),
        CERT.name,
        KEY.name,
        CA.name
    ))
}

/// The certificates in a file, one at least.
fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("holds no certificate in PEM; {HOW}")),
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limits::TLS_FILE_BYTES).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| format!("{error}; {HOW}"))
}
