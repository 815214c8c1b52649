//! Which request goes where: paths, versions, splits, tenants.

use crate::cli::demo::script::Manner;
use crate::cli::demo::stage::Addresses;
use crate::cli::demo::step::{Act, Step};

pub(super) fn paths(at: &Addresses) -> Act {
    let get = |shows, path| Step::get(shows, at.gateway(path));
    let steps = vec![
        get(
            "products are open to all; the service gets the path without the prefix",
            "/products/7?lang=en",
        )
        .json("/service", "products")
        .json("/path", "/7?lang=en"),
        get("a prefix is matched by whole segments", "/productsale")
            .refused(404, "route_not_found"),
        get("there is no route to this", "/nowhere").refused(404, "route_not_found"),
        get("there is one, but not with this method", "/orders/1")
            .method("PUT")
            .refused(405, "method_not_allowed")
            .present("allow"),
        get(
            "a path has one spelling, for the route and for the service",
            "/products//a/./b/../7",
        )
        .json("/path", "/a/7"),
        get(
            "climbing out of an open route does not dodge the other's rules",
            "/products/../users/42",
        )
        .refused(401, "credentials_missing"),
        get("nor does it with escapes", "/products/%2e%2e/users/42")
            .refused(401, "credentials_missing"),
        get(
            "a path that two readers could read in two ways is refused",
            "/products/a%2Fb",
        )
        .refused(400, "ambiguous_path"),
    ];
    Act {
        title: "Routes and paths",
        steps,
    }
}

pub(super) fn versions(at: &Addresses) -> Act {
    let get = |shows| {
        let step = Step::get(shows, at.gateway("/users/42"));
        step.with("Authorization", &at.token("buyer"))
    };
    let tally = |times| Manner::Tally(times, "instance".to_owned());
    let steps = vec![
        get("the version comes from a header; without it v1").json("/version", "v1"),
        get("version 2 is asked for")
            .with("X-API-Version", "v2")
            .json("/version", "v2"),
        get("the case of a header's name does not count")
            .with("x-api-version", "v2")
            .json("/version", "v2"),
        get("a version that nobody has is the default")
            .with("X-API-Version", "v9")
            .json("/version", "v1"),
        get("v1 has two instances, which take turns")
            .manner(tally(10))
            .tally(&[("a", 5), ("b", 5)]),
        get("10 % of v2 goes to a canary, exactly")
            .with("X-API-Version", "v2")
            .manner(tally(20))
            .tally(&[("stable", 18), ("canary", 2)]),
    ];
    Act {
        title: "Versions, instances, canary",
        steps,
    }
}

pub(super) fn tenants(at: &Addresses) -> Act {
    let get = |shows| Step::get(shows, at.gateway("/app/start"));
    let steps = vec![
        get("a tenant has to be named").refused(400, "tenant_missing"),
        get("there is no default for one that is not known")
            .with("X-Tenant-ID", "initech")
            .refused(404, "tenant_unknown"),
        get("each has its own service")
            .with("X-Tenant-ID", "acme")
            .json("/service", "app-of-acme"),
        get("and another")
            .with("X-Tenant-ID", "globex")
            .json("/service", "app-of-globex"),
        Step::get(
            "here the verified token says which tenant, and no header does",
            at.gateway("/mine/start"),
        )
        .with("Authorization", &at.token("reader"))
        .with("X-Tenant-ID", "acme")
        .json("/service", "app-of-globex"),
    ];
    Act {
        title: "Tenants",
        steps,
    }
}
