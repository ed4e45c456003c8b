//! Writes trait, client and router of a service from its list of methods; subject and reply come from the request's type.

macro_rules! contract {
    (
        $(#[$doc:meta])*
        trait $Trait:ident, client $Client:ident, router $serve:ident {
            $( $(#[$mdoc:meta])* $method:ident($Request:ty) $(within $limit:expr)?; )*
        }
    ) => {
        $(#[$doc])*
        #[async_trait::async_trait]
        pub trait $Trait: Send + Sync + 'static {
            $(
                $(#[$mdoc])*
                async fn $method(&self, request: $Request) -> Result<<$Request as berth_wire::Call>::Reply, berth_model::Status>;
            )*
        }

        #[doc = concat!("The remote home of [`", stringify!($Trait), "`]: each method is a call on the bus.")]
        #[derive(Clone)]
        pub struct $Client {
            bus: berth_bus::Bus,
        }

        impl $Client {
            /// A client on this bus.
            #[must_use]
            pub fn new(bus: berth_bus::Bus) -> Self {
                Self { bus }
            }
        }

        #[async_trait::async_trait]
        impl $Trait for $Client {
            $(
                async fn $method(&self, request: $Request) -> Result<<$Request as berth_wire::Call>::Reply, berth_model::Status> {
                    contract!(@call self, request, $Request $(, $limit)?)
                }
            )*
        }

        #[doc = concat!("Serves a [`", stringify!($Trait), "`] on the bus, until the guards are dropped.")]
        pub async fn $serve(
            bus: &berth_bus::Bus,
            service: std::sync::Arc<dyn $Trait>,
        ) -> Result<Vec<berth_bus::Serving>, berth_model::Status> {
            Ok(vec![
                $({
                    let service = std::sync::Arc::clone(&service);
                    bus.serve::<$Request, _, _>(move |request| {
                        let service = std::sync::Arc::clone(&service);
                        async move { service.$method(request).await }
                    })
                    .await?
                }),*
            ])
        }
    };
    (@call $self:ident, $request:ident, $Request:ty) => { $self.bus.call($request).await };
    (@call $self:ident, $request:ident, $Request:ty, $limit:expr) => {{
        let limit: fn(&$Request) -> std::time::Duration = $limit;
        let limit = limit(&$request);
        $self.bus.call_within($request, limit).await
    }};
}

pub(crate) use contract;

/// How long a long poll may take: what it was asked to wait, and what the way there and back may need.
pub(crate) fn long_poll(wait_ms: u32) -> std::time::Duration {
    std::time::Duration::from_millis(u64::from(wait_ms)) + std::time::Duration::from_secs(30)
}

/// For calls that do for many things what others do for one: a caller whose service is of before they came does not wait long
/// for one that knows them, and asks of each thing.
pub(crate) const MANY: std::time::Duration = std::time::Duration::from_secs(5);

/// For calls that copy or flush a lot of data.
pub(crate) const SLOW: std::time::Duration = std::time::Duration::from_secs(600);
