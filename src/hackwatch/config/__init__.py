"""Settings: one hackwatch.toml, the environment, flags.

`from hackwatch.config import Settings, load_settings`
"""

from __future__ import annotations

from hackwatch.config.folders import prepare_data_folder
from hackwatch.config.kafka import KafkaSettings
from hackwatch.config.lake import LakeSettings, StorageSettings
from hackwatch.config.loading import find_file, load_settings
from hackwatch.config.routes import (
    AnyRoute,
    AppriseRouteSettings,
    FileRouteSettings,
    KafkaRouteSettings,
    RouteSettings,
    StdoutRouteSettings,
    SyslogRouteSettings,
    WebhookRouteSettings,
)
from hackwatch.config.settings import (
    AlertSettings,
    CorrelationSettings,
    DetectionSettings,
    EngineSettings,
    LogSettings,
    MetricsSettings,
    OneCorrelationSettings,
    Settings,
    SpoolSettings,
    StoreSettings,
    StreamSettings,
)
from hackwatch.config.spark import SparkSettings

__all__ = [
    "AlertSettings",
    "AnyRoute",
    "AppriseRouteSettings",
    "CorrelationSettings",
    "DetectionSettings",
    "EngineSettings",
    "FileRouteSettings",
    "KafkaRouteSettings",
    "KafkaSettings",
    "LakeSettings",
    "LogSettings",
    "MetricsSettings",
    "OneCorrelationSettings",
    "RouteSettings",
    "Settings",
    "SparkSettings",
    "SpoolSettings",
    "StdoutRouteSettings",
    "StorageSettings",
    "StoreSettings",
    "StreamSettings",
    "SyslogRouteSettings",
    "WebhookRouteSettings",
    "find_file",
    "load_settings",
    "prepare_data_folder",
]
